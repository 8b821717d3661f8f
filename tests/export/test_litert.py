"""LiteRT files: the live model's numbers, and one-line errors for what a file does not have."""
import json

import numpy as np
import pytest

import tfzoo
from tests.experiments.conftest import call  # noqa: F401
from tests.models.test_models import OWN, SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.errors import ConfigError, DataError
from tfzoo.export.litert import export_litert
from tfzoo.layers import initial_weights
from tfzoo.text import load_tokenizer

TEXTS = ["ab", "hello you", "", "ünï\u4e2d", "x" * 100]
ENCODERS = ("bert_tiny", "roberta_tiny", "albert_tiny_v1", "distilbert_tiny", "electra_tiny")
DECODERS = ("gpt2_tiny", "llama_tiny", "mistral_tiny", "qwen2_tiny")
HEADS = {"regression": ("bert_tiny", None), "multi_label": ("bert_tiny", ["a", "b", "c"]),
         "tagging": ("bert_tiny", ["O", "B-X", "I-X"]), "question_answering": ("bert_tiny", None),
         "multiple_choice": ("bert_tiny", None), "contrastive": ("bert_tiny", None)}


def make(name, task, labels=None, **settings):
    tokenizer = load_tokenizer("bytes")
    with initial_weights(0):
        model = tfzoo.build(name, task=task, labels=labels, **{
            **SMALL, **OWN.get(name, {}), "vocab_size": tokenizer.vocab_size, "max_length": 24})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    task = getattr(model, "task", None)
    return Loaded(model, tokenizer, {"model": name, "task": task and task.name, "labels": labels,
                                     "settings": {**task.settings, **settings} if task else {}, "max_length": 24})


def shipped(loaded, folder, **options):
    export_litert(loaded, folder, **{"lengths": [8, 24], "batches": [1, 4], **options})
    return tfzoo.load(folder)


def inputs_of(loaded, rows, columns):
    rng = np.random.default_rng(rows)
    shape = (rows, 3, columns) if loaded.task and loaded.task.axes == 3 else (rows, columns)
    mask = np.ones(shape, np.int32)
    mask[0, ..., columns // 2:] = 0
    inputs = {"token_ids": rng.integers(4, 259, shape).astype(np.int32), "padding_mask": mask}
    if "segment_ids" in loaded.body.input_names:
        inputs["segment_ids"] = rng.integers(0, 2, shape).astype(np.int32)
    return inputs


def check_equal(loaded, file):
    """Compare all real positions of batches smaller, equal to and larger than the exported ones."""
    for rows, columns in ((1, 8), (3, 5), (6, 20)):
        inputs = inputs_of(loaded, rows, columns)
        live, found = loaded.model(inputs, training=False)["logits"].numpy(), file.model(inputs)["logits"].numpy()
        assert live.shape == found.shape
        if live.ndim == 3:
            live, found = (each[inputs["padding_mask"] > 0] for each in (live, found))
        np.testing.assert_allclose(found, live, rtol=1e-5, atol=1e-5 * np.abs(live).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_the_logits_of_every_family_are_the_live_model_s(name, tmp_path):
    loaded = make(name, "classification", ["no", "yes"])
    file = shipped(loaded, tmp_path / "file")
    check_equal(loaded, file)
    answers = loaded.predict(TEXTS)
    for one, other in zip(answers, file.predict(TEXTS), strict=True):
        assert one["label"] == other["label"]
        assert abs(one["probabilities"]["yes"] - other["probabilities"]["yes"]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS)
def test_every_head_gives_the_live_model_s_answers(task, tmp_path):
    name, labels = HEADS[task]
    loaded = make(name, task, labels)
    file = shipped(loaded, tmp_path / "file")
    if task == "contrastive":
        np.testing.assert_allclose(file.embed(TEXTS), loaded.embed(TEXTS), rtol=1e-5, atol=1e-5)
        return
    check_equal(loaded, file)
    if task == "multiple_choice":
        rows = [{"text": "a", "choices": ["b", "cd"]}, {"text": "b", "choices": ["c", "def", "g"]}]
        live, found = loaded.predict(rows), file.predict(rows)
    else:
        pairs = ["a long context", "b", "c d", "e", "x y z" * 9] if task == "question_answering" else None
        live, found = loaded.predict(TEXTS, pairs), file.predict(TEXTS, pairs)
    for one, other in zip(live, found, strict=True):
        for key, value in one.items():
            if isinstance(value, float):
                assert abs(value - other[key]) < 1e-4
            elif key in ("label", "labels", "tags", "answer", "start"):
                assert value == other[key]


def test_a_file_without_a_head_embeds_and_says_what_it_cannot_do(tmp_path):
    body = make("bert_tiny", None)
    file = shipped(body, tmp_path / "file", lengths=[24], batches=[2])
    np.testing.assert_allclose(file.embed(TEXTS), body.embed(TEXTS), rtol=1e-5, atol=1e-5)
    assert file.embed([]).shape == (0, 24)
    for run, says in ((lambda: file.embed(["a"], pooling="first"), "vectors with pooling mean"),
                      (lambda: file.predict(["a"]), "has no head"),
                      (lambda: tfzoo.save(file, tmp_path / "saved"), "has no weights to train, save or export"),
                      (lambda: export_litert(file, tmp_path / "again"), "has no weights to train, save or export"),
                      (lambda: file.model({"token_ids": np.ones((1, 25), np.int32)}), "exported for up to 24"),
                      (lambda: file.model({"token_ids": np.full((1, 4), 260)}), "must be from 0 to 259"),
                      (lambda: file.model({"token_ids": np.full((1, 4), -1)}), "must be from 0 to 259"),
                      (lambda: tfzoo.load(tmp_path / "file", "float32"), "precision was fixed at export")):
        with pytest.raises(ConfigError, match=says):
            run()
    assert file.embed(["a"]).shape == (1, 24)  # a refused call leaves the file usable
    path = tmp_path / "file" / "model.tflite"
    content = bytearray(path.read_bytes())
    for damaged in (content[:-100], content[:5000] + bytes([content[5000] ^ 1]) + content[5001:], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged or was replaced"):
            tfzoo.load(tmp_path / "file")
    path.write_bytes(content)
    config = json.loads((tmp_path / "file" / "config.json").read_text())
    for change, says in (({"format_version": 9}, "format version 9"), ({"litert": {}}, "is damaged"),
                         ({"litert": {**config["litert"], "lengths": []}}, "is damaged")):
        (tmp_path / "file" / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(DataError, match=says):
            tfzoo.load(tmp_path / "file")


def test_exports_that_are_not_possible_are_refused_before_any_work(tmp_path):
    classifier = make("bert_tiny", "classification", ["no", "yes"])
    for loaded, options, says in (
            (classifier, {"lengths": [25]}, "--lengths=25 exceeds the model's 24 positions"),
            (classifier, {"lengths": [0]}, "--lengths must be positive integers, got 0"),
            (classifier, {"lengths": [2]}, "max_length must be at least"),
            (classifier, {"batches": [-1]}, "--batches must be positive integers, got -1"),
            (classifier, {"precision": "bfloat16"}, "choose from float32, float16, int8"),
            (classifier, {"cache_length": 9}, "--cache_length=9 applies to models that generate text"),
            (make("bert_tiny", "masked_lm"), {}, "was trained for masked_lm")):
        with pytest.raises(ConfigError, match=says):
            export_litert(loaded, tmp_path / "file", **options)
    assert not (tmp_path / "file").exists()
    tfzoo.save(classifier, tmp_path / "theirs", format="huggingface")
    (tmp_path / "theirs" / "model.tflite").write_bytes(b"another program's")
    assert tfzoo.load(tmp_path / "theirs").task.name == "classification"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="which tfzoo did not write"):
        export_litert(classifier, tmp_path / "other")


@pytest.mark.slow
def test_scripts_export_predict_and_evaluate_a_file(call, tmp_path):  # noqa: F811
    loaded = make("bert_tiny", "classification", ["no", "yes"])
    tfzoo.save(loaded, tmp_path / "model")
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, ("no", "yes", "no", "no", "yes"))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for precision, sizes in (("float32", []), ("int8", ["--lengths=8,24", "--batches=4"]), ("float16", [])):
        code, out, err = call("export", f"--init={tmp_path / 'model'}", f"--output_dir={tmp_path / 'file'}",
                              "--format=litert", f"--precision={precision}", *sizes)
        assert code == 0, err
        assert json.loads(out.splitlines()[-1])["signatures"] == (
            ["encode_8_batch_4", "encode_24_batch_4"] if sizes else ["encode_24", "encode_24_batch_32"])
        scores = []
        for init in ("model", "file"):
            code, out, err = call("evaluate", f"--init={tmp_path / init}", f"--data={tmp_path / 'rows.jsonl'}")
            assert code == 0, err
            scores.append(json.loads(out.splitlines()[-1]))
        assert scores[0]["examples"] == scores[1]["examples"] == 5
        assert abs(scores[0]["loss"] - scores[1]["loss"]) < {"float32": 1e-5, "float16": 1e-2, "int8": 0.3}[precision]
        code, out, err = call("predict", f"--init={tmp_path / 'file'}", f"--data={tmp_path / 'rows.jsonl'}")
        assert code == 0 and len(out.splitlines()) == 5 and "1 of 5 texts were truncated to 24 tokens" in err
    code, out, err = call("export", f"--init={tmp_path / 'model'}", f"--output_dir={tmp_path / 'file'}", "--batches=4",
                          "--format=litert", f"--report={tmp_path / 'report.json'}",
                          f"--data={tmp_path / 'rows.jsonl'}")
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["precision"] for row in report] == ["live float32", "float32", "float16", "int8"]
    assert report == json.loads(out.splitlines()[-1])["report"] and "largest_difference" in err
    live, exact, half, small = report
    assert exact["largest_difference"] < 1e-5 < half["largest_difference"] < small["largest_difference"] < 1
    assert exact["same_answers"] == 1 and exact["accuracy"] == live["accuracy"] and small["bytes"] < exact["bytes"]
    assert 0 < exact["load_seconds"] < 5 and 0 < exact["ms_1"] and 1e7 < exact["peak_bytes"] < 3e8
    for words, says in ((["--format=litert", f"--report={tmp_path / 'r'}"], "--report requires --data"),
                        (["--report=r"], "--report requires --data"),
                        (["--format=litert", "--top_k=3"], "--top_k does not apply to --format=litert"),
                        (["--lengths=8"], "--lengths requires --format=litert"),
                        (["--precision=int8"], "--precision=int8 requires --format=litert"),
                        (["--format=litert", "--lengths=8,x"], "--lengths=8,x must be positive integers")):
        code, _, err = call("export", f"--init={tmp_path / 'model'}", f"--output_dir={tmp_path / 'new'}", *words)
        assert code == 1 and says in err and "Traceback" not in err
    code, _, err = call("finetune", f"--init={tmp_path / 'file'}", f"--data={tmp_path / 'rows.jsonl'}",
                        f"--eval_data={tmp_path / 'rows.jsonl'}", f"--output_dir={tmp_path / 'run'}", "--steps=1")
    assert code == 1 and "has no weights to train" in err
