"""Models that generate text inside a SavedModel: the live texts, in a process that has only TensorFlow and tf-text."""
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import tfzoo
from tests.models.test_models import SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.errors import ConfigError
from tfzoo.export import export
from tfzoo.export.serving_files import predict_log
from tfzoo.layers import initial_weights
from tfzoo.text import load_tokenizer

TEXTS = ["ab", "hello you", "", "ünï\u4e2d", "x" * 100]
ASK = """
import json, sys
import numpy as np, tensorflow as tf, tensorflow_text
served = tf.saved_model.load(sys.argv[1])
found, (texts, row_options) = {}, json.load(sys.stdin)
for name, (signature, given) in {"plain": ("serving_default", {}), "full": ("full", row_options)}.items():
    answers = served.signatures[signature](text=tf.constant(texts), **{
        key: tf.constant(value, dtype) for key, (value, dtype) in given.items()})
    found[name] = {key: (np.char.decode(value.numpy().astype("S")) if value.dtype == tf.string else
                         value.numpy()).tolist() for key, value in answers.items()}
assert not any(name.split(".")[0] == "tfzoo" for name in sys.modules)
print(json.dumps(found))
"""
# The ops of the libraries that TensorFlow Serving links (tensorflow_text's ops_lib).
TEXT_OPS = ("Sentencepiece", "FastSentencepiece", "Wordpiece", "FastWordpiece", "RegexSplit", "NormalizeUTF8",
            "CaseFold", "TFText>", "UnicodeScript", "Whitespace", "ByteSplit")


def make(name, task, tokenizer=None, **settings):
    tokenizer = tokenizer or load_tokenizer("bytes")
    with initial_weights(0):
        model = tfzoo.build(name, task=task, **{**SMALL, "vocab_size": tokenizer.vocab_size, "max_length": 60})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    loaded = Loaded(model, tokenizer, {"model": name, "task": task, "labels": None, "settings": model.task.settings,
                                       "max_length": 60})
    loaded.change(**settings)
    return loaded


def ask(folder, texts, row_options):
    done = subprocess.run([sys.executable, "-c", ASK, str(folder)], input=json.dumps([texts, row_options]), text=True,
                          capture_output=True)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def nodes_of(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph, = saved.meta_graphs
    return [*graph.graph_def.node, *(node for function in graph.graph_def.library.function
                                     for node in function.node_def)], graph.signature_def


@pytest.mark.slow
@pytest.mark.parametrize("name, task, options", [
    ("gpt2_tiny", "causal_lm", {"temperature": 0}), ("llama_tiny", "causal_lm", {"seed": 2 ** 64 - 1}),
    ("transformer_tiny", "seq2seq", {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5}),
    ("t5_tiny", "seq2seq", {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "stop": ["e", "q"]})])
def test_a_saved_model_writes_the_live_texts(name, task, options, tmp_path):
    loaded = make(name, task, **({"source_prefix": "say: "} if task == "seq2seq" else {}))
    folder = export(loaded, tmp_path / "served", max_new_tokens=12, **options)
    assert folder == tmp_path / "served" / "1"
    texts = TEXTS[:-1] if options.get("temperature") == 1 else TEXTS
    rows = [{**options, "max_new_tokens": 3 + number, "repetition_penalty": 1.0 + number / 10} for number in range(5)]
    row_options = {"max_new_tokens": ([row["max_new_tokens"] for row in rows], "int32"),
                   "repetition_penalty": ([row["repetition_penalty"] for row in rows], "float32"),
                   "min_new_tokens": ([0], "int32"), "presence_penalty": ([0.0], "float32"),
                   "frequency_penalty": ([0.0], "float32")}
    if "num_beams" not in options:
        live = tfzoo.generation.Options(**{name: value for name, value in options.items() if name != "stop"})
        cold = task == "seq2seq" or live.greedy
        row_options.update(temperature=([0.0 if cold else 1.0], "float32"), top_k=([0], "int32"),
                           top_p=([1.0], "float32"), min_p=([0.0], "float32"),
                           seed=([-1 if live.seed else 0] * 5, "int64"))
    found = ask(folder, texts, row_options)
    count = options.get("num_return_sequences", 1)
    for number, text in enumerate(texts):
        # In a SavedModel, each row has its own seed, whatever its place in the batch.
        one = loaded.generate([text], **{"max_new_tokens": 12, **options})
        other = loaded.generate([text], **rows[number])
        for answers, served in ((one, found["plain"]), (other, found["full"])):
            if len(text) == 100 and task == "causal_lm":
                continue  # live, a full context goes on from its second half
            assert [answer["text"] for answer in answers] == list(np.ravel(served["text"][number])), text
            assert [answer["tokens"] + answer["finished"] for answer in answers] == list(np.ravel(
                served["length"][number]))
            if count > 1:
                assert [answer["score"] for answer in answers] == pytest.approx(served["score"][number], rel=1e-5)
    assert len({str(each) for each in found["plain"]["text"]}) > 2
    lost = 101 - 48 if task == "causal_lm" else len("say: ") + 100 - 58
    assert found["plain"]["cut"] == [0, 0, 0, 0, lost]


@pytest.mark.slow
def test_what_the_server_needs_is_there_and_nothing_that_it_lacks(tmp_path):
    loaded = make("gpt2_tiny", "causal_lm")
    first = export(loaded, tmp_path / "served")  # by default, answers have half of the context
    assert json.loads((first / "assets.extra" / "generation.json").read_text())["max_new_tokens"] == 30
    (tmp_path / "served" / ".tmp-2-1").mkdir()  # left by an export that was killed
    folder = export(loaded, tmp_path / "served", max_new_tokens=5, temperature=0.7, seed=2 ** 63)
    assert folder.name == "2" and sorted(path.name for path in folder.parent.iterdir()) == [
        ".tmp-2-1", "1", "2"]
    nodes, signatures = nodes_of(folder)
    known = {name for name in dir(tf.raw_ops) if not name.startswith("_")}
    for node in nodes:
        assert not node.op.startswith("Xla") and "_XlaMustCompile" not in node.attr
        assert node.op in known or node.op.startswith(TEXT_OPS), node.op
    defaults = signatures["full"].defaults
    assert set(defaults) == set(signatures["full"].inputs) - {"text"}
    assert tf.make_ndarray(defaults["temperature"]).tolist() == pytest.approx([0.7])
    assert tf.make_ndarray(defaults["seed"]).tolist() == [-2 ** 63]
    served = tf.saved_model.load(str(folder)).signatures
    nothing = served["serving_default"](text=tf.constant([], tf.string))
    assert {key: tuple(value.shape) for key, value in nothing.items()} == {"text": (0,), "length": (0,), "cut": (0,)}
    many = served["serving_default"](text=tf.constant(["a", "b"] * 40))  # more than are decoded together
    assert many["text"].numpy().tolist() == served["serving_default"](text=tf.constant(["a", "b"]))[
        "text"].numpy().tolist() * 40
    long = served["serving_default"](text=tf.constant(["y" * 10 ** 6]))
    assert long["cut"].numpy().tolist() == [10 ** 6 + 1 - 55] and long["length"].numpy() > 0
    extra = folder / "assets.extra"
    assert json.loads((extra / "generation.json").read_text())["temperature"] == 0.7
    assert "max_batch_size" in (extra / "batching_params.pbtxt").read_text()
    requests = [record.numpy() for record in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))]
    assert len(requests) == 2 and all(b"serving_default" in request for request in requests)


def test_a_warm_up_request_is_the_message_of_the_server():
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="serving", syntax="proto3",
                                              dependency=[tensor_pb2.DESCRIPTOR.name])
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(title, **fields):
        made = file.message_type.add(name=title)
        for field, (number, kind) in fields.items():
            one = made.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL,
                                 type=kinds.TYPE_STRING if kind == "string" else kinds.TYPE_MESSAGE)
            if kind != "string":
                one.type_name = kind
        return made

    # As in tensorflow_serving/apis: model.proto, predict.proto and prediction_log.proto.
    message("ModelSpec", name=(1, "string"), signature_name=(3, "string"))
    request = message("PredictRequest", model_spec=(1, ".serving.ModelSpec"))
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, type_name=".tensorflow.TensorProto",
                    label=kinds.LABEL_OPTIONAL)
    request.field.add(name="inputs", number=2, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED,
                      type_name=".serving.PredictRequest.InputsEntry")
    message("PredictLog", request=(1, ".serving.PredictRequest"))
    message("PredictionLog", predict_log=(6, ".serving.PredictLog"))
    pool = descriptor_pool.Default()
    pool.Add(file)
    log = message_factory.GetMessageClass(pool.FindMessageTypeByName("serving.PredictionLog"))()
    log.ParseFromString(predict_log({"text": tf.constant(["a" * 300, "b"])}, "full"))
    assert log.predict_log.request.model_spec.signature_name == "full"
    assert tf.make_ndarray(log.predict_log.request.inputs["text"]).tolist() == [b"a" * 300, b"b"]


@pytest.mark.parametrize("task, options, says", [
    ("causal_lm", {"max_new_tokens": 60}, "leaves no room for a prompt in the model's 60 positions"),
    ("causal_lm", {"top_p": 0.0}, "--top_p must be above 0"), ("causal_lm", {"beams": 2}, "'beams' is unknown"),
    ("classification", {"num_beams": 2}, "applies to models that generate text, not to classification")])
def test_what_cannot_be_exported_is_refused(task, options, says, tmp_path):
    labels = {"labels": ["a", "b"]} if task == "classification" else {}
    tokenizer = load_tokenizer("bytes")
    model = tfzoo.build("gpt2_tiny", task=task, **labels, **{**SMALL, "vocab_size": 260, "max_length": 60})
    loaded = Loaded(model, tokenizer, {"model": "gpt2_tiny", "task": task, "labels": labels.get("labels"),
                                       "settings": model.task.settings, "max_length": 60})
    with pytest.raises(ConfigError, match=says):
        export(loaded, tmp_path / "served", **options)
    assert not (tmp_path / "served").exists()
