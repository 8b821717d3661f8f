"""Worker process that generates tokens with one system (see benchmarks.decode).

Run as `python -m benchmarks.decode_worker RECIPE SYSTEM VARIANT DTYPE`, where RECIPE is JSON from benchmarks.decode. A
worker imports only its own system. It answers a line "WORKLOAD COUNT" by running the workload once, with the tokens of
each row or, if the system cannot run it, the `problem`.
"""
import functools
import json
import os
import pathlib
import sys
import tempfile

from benchmarks.worker import answer


def ids_of(work):
    """Return the token ids of a workload's prompts or, for an encoder-decoder, of its sources: int32 [B, T]."""
    import numpy as np
    return np.random.default_rng(0).integers(5, work["vocab"], (work["batch"], work["prompt"])).astype(np.int32)


def _limit_tensorflow(threads):
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def tfzoo_generate(recipe, variant, dtype):
    """Return a function (workload) -> tokens int [B, N] that generates with tfzoo.

    `variant` is `no_xla`, `xla`, or `frozen`: without XLA, but TensorFlow may keep the weights in its kernels' layout.
    """
    os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = str(int(variant == "frozen"))  # read when tensorflow first needs it
    _limit_tensorflow(recipe["threads"])
    import tensorflow as tf
    import tfzoo
    from tfzoo.generation import Generator, Options
    model = tfzoo.load(recipe["folder"], dtype=dtype).model if "folder" in recipe else \
        tfzoo.build(recipe["model"], task="causal_lm", dtype=dtype, **recipe["overrides"])
    body, logits_of = model.body, model.logits

    @functools.lru_cache(maxsize=None)
    def runner(new, beams):
        options = Options(temperature=0.0, max_new_tokens=new, min_new_tokens=new, eos_token_id=(recipe["eos"],),
                          num_beams=beams)
        return Generator(body, logits_of, options, xla=variant == "xla").generate

    def generate(work):
        ids = ids_of(work)
        prompts, source = ids.tolist(), None
        if body.traits.source:
            prompts = [[0]] * len(ids)
            source = {"encoder_token_ids": tf.constant(ids), "encoder_padding_mask": tf.ones_like(ids)}
        found = runner(work["new"], work["beams"])(prompts, source)
        return found.token_ids

    return generate


def litert_generate(recipe, variant, dtype):
    """Return a function (workload) -> tokens int [B, N] for tfzoo's export to LiteRT, which is made first."""
    import tfzoo
    from tfzoo.export.litert import export_litert
    from tfzoo.litert.generation import Generator
    from tfzoo.litert.runner import Runner
    from tfzoo.records.options import Options
    from tfzoo.text import load_tokenizer
    loaded, works = tfzoo.load(recipe["folder"]), list(recipe["works"].values())
    loaded.tokenizer = load_tokenizer("bytes")  # the folder has none, and only ids are used
    with tempfile.TemporaryDirectory() as folder:
        export_litert(loaded, folder, sorted({work["prompt"] for work in works}), sorted({
            work["batch"] for work in works}), dtype, max(work["prompt"] + work["new"] for work in works))
        runner = Runner(folder, recipe["threads"])

    @functools.lru_cache(maxsize=None)
    def made(new, beams):
        return Generator(runner, Options(temperature=0.0, max_new_tokens=new, min_new_tokens=new,
                                         eos_token_id=(recipe["eos"],), num_beams=beams))

    def generate(work):
        ids = ids_of(work)
        if not runner.config["litert"]["source"]:
            return made(work["new"], work["beams"]).generate(ids.tolist()).token_ids
        source = {"encoder_token_ids": ids, "encoder_padding_mask": ids * 0 + 1}
        return made(work["new"], work["beams"]).generate([[0]] * len(ids), source).token_ids

    return generate


def keras_nlp_generate(recipe, variant, dtype):
    """Return a function (workload) -> tokens int [B, N] for keras-nlp's GPT-2; `variant` is `xla` or `no_xla`."""
    _limit_tensorflow(recipe["threads"])
    import keras_nlp
    import numpy as np
    if recipe["task"] != "causal_lm":
        raise SystemExit("keras-nlp does not read T5 from a Hugging Face folder")
    backbone = keras_nlp.models.GPT2Backbone.from_preset(recipe["folder"], dtype=dtype)

    @functools.lru_cache(maxsize=None)
    def model_of(beams):
        model = keras_nlp.models.GPT2CausalLM(backbone, preprocessor=None)
        sampler = keras_nlp.samplers.BeamSampler(num_beams=beams) if beams > 1 else "greedy"
        model.compile(sampler=sampler, jit_compile=variant == "xla")
        return model

    def generate(work):
        ids = np.pad(ids_of(work), [[0, 0], [0, work["new"]]])
        real = np.arange(ids.shape[1]) < work["prompt"]
        found = model_of(work["beams"]).generate(
            {"token_ids": ids, "padding_mask": np.broadcast_to(real, ids.shape).astype(np.int32)}, stop_token_ids=None)
        return np.asarray(found["token_ids"])[:, work["prompt"]:]

    return generate


def _transformers_model(recipe, dtype):
    import transformers
    kind = {"causal_lm": transformers.AutoModelForCausalLM, "seq2seq": transformers.AutoModelForSeq2SeqLM}
    return kind[recipe["task"]].from_pretrained(recipe["folder"], dtype=dtype).eval()


def pytorch_generate(recipe, variant, dtype):
    """Return a function (workload) -> tokens int [B, N] for transformers on PyTorch.

    `variant` is `eager`, or `compiled`: torch.compile with transformers' cache of fixed size.
    """
    import torch
    torch.set_num_threads(recipe["threads"])
    model = _transformers_model(recipe, getattr(torch, dtype))
    if variant == "compiled":
        model.forward = torch.compile(model.forward)
        model.generation_config.cache_implementation = "static"

    def generate(work):
        ids = torch.tensor(ids_of(work), dtype=torch.long)
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=work["beams"],
                max_new_tokens=work["new"], min_new_tokens=work["new"], eos_token_id=recipe["eos"], pad_token_id=0)
        return found[:, -work["new"]:].numpy()

    return generate


class _Tokens:
    # Stands for the tokenizer that CTranslate2's converter asks for names: those of ids are their digits.

    def __init__(self, config, eos):
        self.size, self.eos_token, self.bos_token, self.pad_token = config.vocab_size, str(eos), "0", "0"
        self.unk_token = "2"

    def get_vocab(self):
        return {str(number): number for number in range(self.size)}

    def convert_ids_to_tokens(self, number):
        return str(number)


def ctranslate2_generate(recipe, variant, dtype):
    """Return a function (workload) -> tokens int [B, N] for CTranslate2, which converts the weights first."""
    import ctranslate2
    import numpy as np
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        def load_tokenizer(self, tokenizer_class, path, **options):
            import transformers
            return _Tokens(transformers.AutoConfig.from_pretrained(path), recipe["eos"])

    seq2seq = recipe["task"] == "seq2seq"
    with tempfile.TemporaryDirectory() as folder:
        Converter(recipe["folder"]).convert(str(pathlib.Path(folder) / "model"), quantization=dtype)
        model = (ctranslate2.Translator if seq2seq else ctranslate2.Generator)(
            str(pathlib.Path(folder) / "model"), device="cpu", compute_type=dtype, inter_threads=1,
            intra_threads=recipe["threads"])

    def generate(work):
        rows = [[str(number) for number in row] for row in ids_of(work).tolist()]
        if seq2seq:
            found = model.translate_batch(rows, beam_size=work["beams"], max_decoding_length=work["new"],
                                          min_decoding_length=work["new"])
            return np.array([[int(token) for token in row.hypotheses[0]] for row in found])
        found = model.generate_batch(rows, beam_size=work["beams"], max_length=work["new"], min_length=work["new"],
                                     include_prompt_in_result=False)
        return np.array([row.sequences_ids[0] for row in found])

    return generate


SYSTEMS = {"tfzoo": tfzoo_generate, "keras-nlp": keras_nlp_generate, "pytorch": pytorch_generate,
           "ctranslate2": ctranslate2_generate, "tfzoo-litert": litert_generate}


def run(generate, work, count):
    """Run a workload: dict of its `token_ids`, or of the `problem` in one line if the system cannot run it."""
    try:
        return {"token_ids": generate(work).tolist()}
    except Exception as error:  # whatever a peer raises for what it does not support
        return {"problem": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def main():
    recipe, system, variant, dtype = sys.argv[1:]
    recipe = json.loads(recipe)
    generate = SYSTEMS[system](recipe, variant, dtype)
    answer(None, **{name: functools.partial(run, generate, work) for name, work in recipe["works"].items()})


if __name__ == "__main__":
    main()
