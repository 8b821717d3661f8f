"""The model of a run: the labels and head of --init if the data have different labels."""
import numpy as np
import pytest

import tfzoo
from tests.models.test_models import SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.data.sentences import Sentences
from tfzoo.data.source import Source
from tfzoo.errors import DataError
from tfzoo.text import load_tokenizer
from tfzoo.training.model import build_model, make_task
from tfzoo.training.settings import Settings

LABELS = {"classification": ["pos", "mid", "neg"], "tagging": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]}


def source_of(task, labels):
    if task == "tagging":
        return Sentences("data", {"tokens": [["a"] * len(labels)], "tags": [list(labels)]})
    return Source("data", {"text": ["a"] * len(labels), "label": list(labels)})


def opened(task, labels):
    """Return (Settings of a run that starts from a model with these labels, the model)."""
    model = tfzoo.build("bert_tiny", task, labels, **{**SMALL, "vocab_size": 300})
    settings = Settings.resolve({"task": task, "init": "theirs", "data": "data", "output_dir": "run"})
    return settings, Loaded(model, load_tokenizer("bytes"), {"model": "bert_tiny", "task": task, "labels": labels,
                                                             "settings": {}, "max_length": 12})


@pytest.mark.parametrize("task, there", [
    ("classification", ["neg", "mid", "pos"]), ("classification", ["neg", "pos"]),
    ("tagging", ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]), ("tagging", ["O", "B-LOC", "I-LOC"])])
def test_labels_of_init_keep_their_order_and_the_head_its_rows(task, there, capsys):
    settings, init = opened(task, LABELS[task])
    made = make_task(settings, source_of(task, there), init)
    model, _ = build_model(settings, made, init=init, tokenizer=init.tokenizer)
    inputs = init.tokenizer(["some text"])
    assert made.labels == model.task.labels == LABELS[task]
    assert np.array_equal(model(inputs)["logits"], init.model(inputs)["logits"])
    err = capsys.readouterr().err
    assert "nothing newly initialized, nothing dropped" in err and ("lacks" in err) == (len(there) < len(LABELS[task]))


@pytest.mark.parametrize("task, there", [("classification", ["neg", "pos", "odd"]), ("tagging", ["O", "B-ORG"]),
                                         ("classification", ["0", "1"])])
def test_labels_beyond_those_of_init_make_a_fresh_head_and_are_reported(task, there, capsys):
    settings, init = opened(task, LABELS[task])
    source = source_of(task, there)
    made = make_task(settings, source, init)
    build_model(settings, made, init=init, tokenizer=init.tokenizer)
    err = capsys.readouterr().err
    assert made.labels == source.labels() and "head newly initialized" in err
    assert "not known to --init=theirs: the head is newly initialized" in err


@pytest.mark.parametrize("task, column, values, found", [
    ("classification", "label", ["pos", "pos"], "only 'pos'"), ("tagging", "tags", [["O"], ["O"]], "only 'O'"),
    ("multi_label", "labels", [["a"], []], "only 'a'"), ("multi_label", "labels", [[], []], "none")])
def test_data_of_one_label_are_refused_by_name(task, column, values, found):
    texts = {"tokens": [["a"], ["b"]]} if task == "tagging" else {"text": ["a", "b"]}
    source = (Sentences if task == "tagging" else Source)("rows.jsonl", {**texts, column: values})
    settings = Settings.resolve({"task": task, "model": "bert_tiny", "tokenizer": "bytes", "data": "rows.jsonl",
                                 "output_dir": "run"})
    with pytest.raises(DataError, match=f"^rows.jsonl: {task} requires at least two different labels, but the data "
                                        f"have {found}$"):
        make_task(settings, source)


def test_a_run_that_goes_on_keeps_the_labels_it_began_with():
    settings, init = opened("classification", LABELS["classification"])
    made = make_task(settings, source_of("classification", ["neg", "pos"]), init,
                     {"task": "classification", "labels": ["neg", "pos"]})  # a run from an earlier release
    assert made.labels == ["neg", "pos"]


def test_labels_of_another_task_are_not_those_of_the_data():
    _, init = opened("tagging", LABELS["tagging"])
    settings, _ = opened("classification", LABELS["classification"])
    assert make_task(settings, source_of("classification", ["I-PER", "B-PER"]), init).labels == ["B-PER", "I-PER"]
