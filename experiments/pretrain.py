"""Pretrain a language model, from scratch or from an earlier run.

BERT learns to fill hidden words (--task=masked_lm), GPT-2 to write on (--task=causal_lm).
"""
from experiments import app, assembly, groups

SAMPLE_TOKENS = 200


def make_flags():
    script = app.Flags("pretrain", __doc__)
    groups.what(script, ("masked_lm", "causal_lm"))
    groups.data(script)
    groups.document(script)
    groups.texts(script)
    script.add("bool", "next_sentence", False, "masked_lm: also tell whether the second half follows the first.")
    script.add("bool", "whole_word", False, "masked_lm: hide all the pieces of a word together.")
    script.add("enum", "pack", "auto", "masked_lm: put several documents in one row, where each sees only itself. "
               "auto: on without --next_sentence.", allowed=["auto", "on", "off"])
    groups.optimization(script)
    groups.running(script)
    return script


def _sampler(parts):
    """Return the function that lets a causal model write for TensorBoard."""
    if parts.task.name != "causal_lm":
        return None
    from tfzoo.generation import Generator, Sampling
    generator = Generator(parts.model.body, parts.model.logits, Sampling(0.8))

    def sample():
        tokens = generator.generate([[parts.tokenizer.end_id]], SAMPLE_TOKENS)[0].tolist()
        return {"sample": parts.tokenizer.decode([tokens])[0]}

    return sample


def run(values, script):
    from tfzoo.errors import ConfigError
    from tfzoo.tasks import task_of
    assembly.check_training_flags(values)
    if values.task != "masked_lm" and (values.next_sentence or values.whole_word):
        raise ConfigError(f"--next_sentence and --whole_word are for --task=masked_lm: got --task={values.task}")
    can_pack = values.task == "masked_lm" and not values.next_sentence
    if values.pack == "on" and not can_pack:
        raise ConfigError(f"--pack=on is for --task=masked_lm without --next_sentence: got --task={values.task}"
                          f"{' --next_sentence' if values.next_sentence else ''}; causal_lm's rows are always full")
    if values.pack == "auto":  # what flags.txt and config.json say then
        values.pack = "on" if can_pack else "off"
    strategy = assembly.prepare(values)
    settings = {"next_sentence": values.next_sentence, "whole_word": values.whole_word, "pack": values.pack == "on"}
    task = task_of(values.task, **(settings if values.task == "masked_lm" else {}))
    loaded = assembly.load_init(values)
    task.check_family(loaded.config["model"] if loaded else values.model)
    document = values.document
    if document == "auto":
        document = "file" if values.task == "causal_lm" else "paragraph"
    sources = assembly.open_sources(values, ("text",), document)
    return assembly.run_training(script, values, task, sources, loaded, strategy, _sampler)


if __name__ == "__main__":
    flags = make_flags()
    app.main(flags, lambda values: run(values, flags))
