"""Continue a prompt with a causal language model; the text is streamed to stdout.

    python -m experiments.generate --init=runs/gpt --prompt="Once upon a time" --temperature=0.8 --top_p=0.95
"""
import io
import sys

from experiments import app, groups

TAIL = 32  # prompt tokens that determine how the continuation is joined to the prompt


def make_flags():
    script = app.Flags("generate", __doc__)
    groups.loading(script)
    script.group("generation")
    script.add("string", "prompt", "", "Text to continue, or - to read it from standard input. Default: start a "
               "new text.")
    script.add("integer", "max_new_tokens", 200, "Generate at most this many tokens.", lower_bound=1)
    script.add("float", "temperature", 1.0, "0: always choose the most likely token; 1: sample from the model's own "
               "distribution.",
               lower_bound=0.0)
    script.add("integer", "top_k", 0, "Sample from this many of the most likely tokens; 0: from all.", lower_bound=0)
    script.add("float", "top_p", 1.0, "Nucleus sampling: sample from the most likely tokens whose total "
               "probability reaches this value.",
               lower_bound=0.0, upper_bound=1.0)
    script.add("integer", "seed", 0, "Random seed for sampling.", lower_bound=0,
               upper_bound=groups.FIELDS.SEEDS)
    script.add("string", "output", None, "Output file, written once the text is complete; default: stdout.")
    script.group("running")
    groups.precision(script)
    return script


def run(values):
    import time

    from tfzoo import files
    from tfzoo.checkpoints import load
    from tfzoo.errors import ConfigError
    from tfzoo.generation import Generator, Sampling
    from tfzoo.progress import tell
    from tfzoo.training.fields import POLICIES
    loaded = load(values.init, POLICIES[values.precision])
    if loaded.config["task"] != "causal_lm":
        raise ConfigError(f"--init={values.init} was trained for {loaded.config['task']}: give a causal_lm model")
    output = app.output_path(values.output)
    sampling = Sampling(values.temperature, values.top_k, values.top_p, values.seed)
    prompt = sys.stdin.read() if values.prompt == "-" else values.prompt
    tokens = loaded.check_tokenizer().beginning(loaded.tokenizer.encode([prompt])[0].numpy())
    if len(tokens) >= loaded.model.body.config["max_length"]:
        tell(f"the prompt has {len(tokens):,} tokens; the model sees only the last "
             f"{loaded.model.body.config['max_length'] - 1:,}")
    begin, made, shown, out = time.perf_counter(), [], 0, io.StringIO() if output else sys.stdout
    _put(out, prompt)
    # If the tokenizer drops the prompt's trailing space, the printed one already separates it from the continuation.
    parted = prompt[-1:].isspace() and not loaded.tokenizer.decode([tokens])[0][-1:].isspace()

    tail = tokens[-TAIL:]

    def added():
        text = loaded.tokenizer.continuation(tail, made)
        return text.removeprefix(" ") if parted else text

    generator = Generator(loaded.body, loaded.model.logits, sampling)
    for token in generator.stream([tokens], values.max_new_tokens, loaded.end_ids):
        if token[0] in loaded.end_ids:
            break
        made.append(int(token[0]))
        text = added()
        if not text.endswith("\ufffd"):  # a character made of several tokens may be incomplete
            _put(out, text[shown:])
            shown = len(text)
    _put(out, added()[shown:] + "\n")
    if output:
        files.write_atomic(output, out.getvalue())
    seconds = time.perf_counter() - begin
    return {"tokens": len(made), "tokens_per_second": round(len(made) / seconds, 1)}


def _put(out, text):
    out.write(text.encode("utf-8", "replace").decode())  # undecodable bytes of a prompt have no UTF-8 form
    out.flush()


if __name__ == "__main__":
    app.main(make_flags(), run, sys.stderr)
