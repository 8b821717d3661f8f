"""Worker process that classifies or embeds texts with one system (see benchmarks.serve).

Run as `python -m benchmarks.serve_worker RECIPE SYSTEM VARIANT DTYPE`, where RECIPE is JSON from benchmarks.serve. It
answers a line "BATCH COUNT" by running all texts COUNT times, BATCH at a time, tokenizers included.
"""
import contextlib
import functools
import json
import os
import pathlib
import sys
import tempfile
import time

from benchmarks.worker import answer


def _limit_tensorflow(threads):
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def saved_model(recipe, variant, dtype, folder):
    """Return a function (list of str) -> probabilities [B, C] that calls tfzoo's SavedModel.

    With the `variant` `frozen`, TensorFlow may keep the weights in its kernels' layout.
    """
    os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = str(int(variant == "frozen"))  # read when tensorflow first needs it
    _limit_tensorflow(recipe["threads"])
    import tensorflow as tf

    import tfzoo
    from tfzoo.export import export
    path = export(tfzoo.load(recipe["model"], {"bfloat16": "mixed_bfloat16"}.get(dtype, dtype)), folder / "served")
    served = tf.saved_model.load(str(path))
    serve = served.signatures["serving_default"]
    return lambda texts: (serve(text=tf.constant(texts))["probabilities"].numpy(), served)[0]


def litert(recipe, variant, dtype, folder):
    """Return a function (list of str) -> probabilities [B, C] that calls tfzoo's LiteRT file, without TensorFlow."""
    file = _litert_file(recipe, dtype, folder)
    return lambda texts: [list(row["probabilities"].values()) for row in file.predict(texts)]


def _litert_file(recipe, dtype, folder):
    import subprocess
    code = ("import sys, tfzoo; from tfzoo.export.litert import export_litert; "
            "export_litert(tfzoo.load(sys.argv[1]), sys.argv[2], [32, 64, 128], json.loads(sys.argv[4]), sys.argv[3])")
    subprocess.run([sys.executable, "-c", f"import json; {code}", recipe["model"], str(folder / "lite"), dtype,
                    json.dumps(recipe["batches"])], check=True, stdout=sys.stderr)
    sys.modules["tensorflow"] = None  # so that `import tfzoo` leaves it out
    import tfzoo.litert
    return tfzoo.litert.load(folder / "lite", recipe["threads"])


def _encoder(recipe):
    # A function (list of str) -> dict of int64 [B, T], padded to the longest text, with the `tokenizers` package.
    import numpy as np
    from tokenizers import BertWordPieceTokenizer
    backend = BertWordPieceTokenizer(str(pathlib.Path(recipe["theirs"]) / "vocab.txt"), lowercase=True)
    backend.enable_truncation(128)
    backend.enable_padding()

    def encode(texts):
        found = backend.encode_batch(texts)
        return {name: np.array([getattr(each, kind) for each in found], np.int64) for name, kind in (
            ("input_ids", "ids"), ("attention_mask", "attention_mask"), ("token_type_ids", "type_ids"))}

    return encode


def _softmax(logits):
    import numpy as np
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _torch_model(recipe, dtype="float32"):
    import torch
    import transformers
    torch.set_num_threads(recipe["threads"])
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        recipe["theirs"], dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()


def pytorch(recipe, variant, dtype, folder):
    """Return a function (list of str) -> probabilities [B, C] for transformers on PyTorch."""
    import torch
    model, encode = _torch_model(recipe, dtype), _encoder(recipe)

    def run(texts):
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(ids) for name, ids in encode(texts).items()}
            return torch.softmax(model(**inputs).logits.float(), -1).numpy()

    return run


def _write_onnx(recipe, path):
    import torch
    model, inputs = _torch_model(recipe), _encoder(recipe)(["a film", "a longer text"])
    model.set_attn_implementation("eager")
    inputs = {name: torch.from_numpy(ids) for name, ids in inputs.items()}
    axes = {name: {0: "batch", 1: "length"} for name in inputs}
    torch.onnx.export(model, (inputs,), str(path), input_names=list(inputs), output_names=["logits"],
                      dynamic_axes={**axes, "logits": {0: "batch"}}, dynamo=False, opset_version=17)


def onnxruntime(recipe, variant, dtype, folder):
    """Return a function (list of str) -> probabilities [B, C] for ONNX Runtime; int8 is dynamic, per channel."""
    import onnxruntime as ort
    path, encode = folder / "model.onnx", _encoder(recipe)
    _write_onnx(recipe, path)
    if dtype == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process
        with contextlib.chdir(folder):  # both leave the weights and intermediate models in the current folder
            quant_pre_process(str(path), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
            quantize_dynamic(str(folder / "prepared.onnx"), str(folder / "int8.onnx"), per_channel=True,
                             weight_type=QuantType.QInt8)
        path = folder / "int8.onnx"
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = recipe["threads"], 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}

    def run(texts):
        return _softmax(session.run(None, {name: ids for name, ids in encode(texts).items() if name in names})[0])

    return run


def openvino(recipe, variant, dtype, folder):
    """Return a function (list of str) -> probabilities [B, C] for OpenVINO with its hint for latency."""
    import openvino as ov
    encode = _encoder(recipe)
    _write_onnx(recipe, folder / "model.onnx")
    core = ov.Core()
    kind = {"bfloat16": "bf16", "float32": "f32"}[dtype]
    model = core.compile_model(core.read_model(str(folder / "model.onnx")), "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": recipe["threads"], "INFERENCE_PRECISION_HINT": kind})
    names = {each.any_name for each in model.inputs}
    return lambda texts: _softmax(next(iter(model(
        {name: ids for name, ids in encode(texts).items() if name in names}).values())))


def embed(recipe, variant, dtype, folder):
    """Return a function (list of str) -> vectors [N, D] that calls Loaded.embed."""
    _limit_tensorflow(recipe["threads"])
    import tfzoo
    return tfzoo.load(recipe["folder"], {"bfloat16": "mixed_bfloat16"}.get(dtype, dtype)).embed


def embed_litert(recipe, variant, dtype, folder):
    """Return a function (list of str) -> vectors [N, D] that calls tfzoo's LiteRT file, without TensorFlow."""
    return _litert_file({**recipe, "model": recipe["folder"], "batches": [32]}, dtype, folder).embed


def sentence_transformers(recipe, variant, dtype, folder):
    """Return a function (list of str) -> vectors [N, D] for sentence-transformers."""
    import torch
    from sentence_transformers import SentenceTransformer
    torch.set_num_threads(recipe["threads"])
    model = SentenceTransformer(recipe["folder"], device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


SYSTEMS = {"tfzoo": saved_model, "tfzoo-litert": litert, "pytorch": pytorch, "onnxruntime": onnxruntime,
           "openvino": openvino, "sentence-transformers": sentence_transformers}
EMBEDDING = {"tfzoo": embed, "tfzoo-litert": embed_litert}


def answered(run, texts, batch, count):
    """Ask for all texts `count` times: dict of the median `milliseconds` of a batch, and the answers' `rows`."""
    times, found = [], []
    for _ in range(count):
        found = []
        for first in range(0, len(texts), batch):
            begin = time.perf_counter()
            found += [list(map(float, row)) for row in run(texts[first:first + batch])]
            times.append(time.perf_counter() - begin)
    return {"milliseconds": 1000 * sorted(times)[len(times) // 2], "rows": found}


def main():
    recipe, system, variant, dtype = sys.argv[1:]
    recipe = json.loads(recipe)
    with tempfile.TemporaryDirectory() as folder:
        made = EMBEDDING.get(system, SYSTEMS[system]) if variant == "embed" else SYSTEMS[system]
        run = made(recipe, variant, dtype, pathlib.Path(folder))
        answer(None, **{str(batch): functools.partial(answered, run, recipe["texts"], batch)
                        for batch in recipe["batches"]})


if __name__ == "__main__":
    main()
