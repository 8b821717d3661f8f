"""Tagging: one tag per word for any tokenizer and max_length; loaded, evaluated and served models agree."""
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.helpers import check_task, hostile_texts
from tests.tasks.test_tasks import SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.data.sentences import Sentences
from tfzoo.errors import ConfigError
from tfzoo.export import export, serving_function
from tfzoo.tasks import task_of
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.training.evaluator import Evaluator, in_order

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
SENTENCES = [["Ann", "Lee", "\x00", "saw", "New", "York"], ["rain"], ["\x7f"], ["Paris", "#", "hosts", "Ann"] * 6]
TAGS = [["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC"], ["O"], ["O"], ["B-LOC", "O", "O", "B-PER"] * 6]


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer("learn:wordpiece:120", [" ".join(words) for words in SENTENCES] * 3)


def make(tokenizer, name="bert_tiny", length=20, **settings):
    sizes = {**SMALL, "vocab_size": tokenizer.vocab_size}
    model = tfzoo.build(name, task="tagging", labels=LABELS, **sizes)
    model.task = task_of("tagging", LABELS, **settings)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.5 * rng.standard_normal(variable.shape).astype(np.float32))
    return Loaded(model, tokenizer, {"model": name, "task": "tagging", "labels": LABELS,
                                     "settings": model.task.settings, "max_length": length})


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
@pytest.mark.parametrize("decoding", ["viterbi", "argmax"])
def test_evaluation_counts_each_sentence_once_in_its_order_as_prediction_has_it(kind, decoding, tokenizer):
    loaded = make(tokenizer if kind == "wordpiece" else load_tokenizer("bytes"), decoding=decoding)
    source, task = Sentences("s", {"tokens": SENTENCES, "tags": TAGS}), loaded.task
    seen = []
    task.metrics = lambda sums, answers, references: seen.append((answers, references)) or {"count": sums["count"]}
    data = task.features(source, loaded.tokenizer, batch_size=3, max_length=20)
    counted = Evaluator(loaded.model, task).evaluate(data)["count"]
    (answers, references), = seen
    assert references == TAGS and [answer["tokens"] for answer in answers] == SENTENCES
    assert counted == sum(map(len, SENTENCES)) - data.tokenless and (data.windows > 1).any()
    alone = [loaded.predict([words])[0] for words in SENTENCES]
    assert alone == answers == loaded.predict(SENTENCES)
    assert len({tag for answer in answers for tag in answer["tags"]}) > 1
    valid = all(tag[0] != "I" or before[1:] == tag[1:] for answer in answers
                for before, tag in zip(["O", *answer["tags"]], answer["tags"]))
    assert valid == (decoding == "viterbi")
    for answer, words in zip(answers, SENTENCES):
        assert all(" ".join(words)[entity["start"]:entity["end"]] == entity["text"] for entity in answer["entities"])


def test_metrics_are_those_of_conlleval():
    task = task_of("tagging", LABELS)
    sums = {"loss": 6.0, "right": 2.0, "count": 4.0}
    tags = [["B-PER", "I-PER", "O", "O", "B-LOC", "O"], ["B-LOC"], ["O"], TAGS[3]]
    metrics = task.metrics(sums, [{"tags": each} for each in tags], TAGS)
    # 13 of the 14 true entities are found; 15 are predicted.
    assert metrics["f1"] == pytest.approx(2 * 13 / (14 + 15)) and metrics["precision"] == pytest.approx(13 / 15)
    assert metrics["accuracy"] == pytest.approx(30 / 32) and metrics["loss"] == 1.5
    assert task.better == ("f1", max) and task_of("tagging", ["ADJ", "NOUN"]).better == ("accuracy", max)
    assert set(task.metrics(sums)) == {"loss", "accuracy"}


def test_data_without_entities_are_reported(capsys):
    metrics = task_of("tagging", LABELS).metrics({"loss": 1.0, "right": 1.0, "count": 1.0}, [{"tags": ["O"]}], [["O"]])
    assert metrics["f1"] == 0 and metrics["accuracy"] == 1
    assert "f1 and recall are reported as 0, since the data have no entities" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
@pytest.mark.parametrize("decoding", ["viterbi", "argmax"])
def test_served_and_live_give_the_same_tags_and_places(kind, decoding, tokenizer):
    loaded = make(tokenizer if kind == "wordpiece" else load_tokenizer("bytes"), decoding=decoding)
    texts = ["Ann  saw \U0001f600 Paris, e\u0301te\u0301.", "", " \x00 ", "x " * 40, *hostile_texts(30)[:24]]
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in texts]
    live = loaded.predict(texts)
    served = {key: value.numpy() for key, value in serving_function(loaded)(tf.constant(texts)).items()}
    for row, (text, answer) in enumerate(zip(texts, live)):
        size = served["length"][row]
        starts, ends = served["starts"][row, :size], served["ends"][row, :size]
        assert [text[start:end] for start, end in zip(starts, ends)] == answer["tokens"]
        if not served["cut"][row]:
            assert [tag.decode() for tag in served["tags"][row, :size]] == answer["tags"]
        assert (served["tags"][row, size:] == b"").all()
    assert served["cut"][3] > 0 and (served["cut"] == 0).sum() > 15
    empty = serving_function(loaded)(tf.constant(["", " "]))
    assert empty["tags"].shape == (2, 0) and empty["length"].numpy().tolist() == [0, 0]


def test_a_saved_model_alone_knows_its_task_and_labels(tokenizer, tmp_path):
    loaded = make(tokenizer)
    loaded.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.task.name, again.task.labels) == ("tagging", LABELS)
    tfzoo.save(again, tmp_path / "folder")
    assert tfzoo.load(tmp_path / "folder").config["labels"] == LABELS
    tfzoo.save(loaded, tmp_path / "whole")
    assert tfzoo.load(tmp_path / "whole").predict(SENTENCES) == loaded.predict(SENTENCES)
    model = tfzoo.build("bert_tiny", task="masked_lm", **SMALL)
    model.task = task_of("masked_lm", whole_word=True)
    model.save(tmp_path / "other.keras")
    assert keras.models.load_model(tmp_path / "other.keras").task.settings["whole_word"]


def test_predictions_of_batches_are_joined_in_order_without_padding():
    found = in_order([{"tags": np.array([[1, 2], [3, 4]])}, {"tags": np.array([[5, 6, 7], [0, 0, 0]])}],
                     [np.array([2, 0]), np.array([1, -1])])
    assert found["tags"].tolist() == [[3, 4, 0], [5, 6, 7], [1, 2, 0]]


def test_a_model_of_another_scheme_is_scored_on_the_entities_of_the_data():
    source = Sentences("x", {"tokens": [["a", "b", "c"]], "tags": [["B-PER", "B-PER", "O"]]})
    for labels, expected, f1 in ((["O", "I-PER"], [1, 1, 0], 0), (["O", "B-PER", "I-PER"], [1, 1, 0], 1)):
        task = task_of("tagging", labels)
        data = task.features(source, load_tokenizer("bytes"), batch_size=1, max_length=16)
        batch = data.batch(0)
        assert batch["labels"][0][data.place].tolist() == expected
        answers = task.answers({"tags": batch["labels"]}, data)
        found = task.metrics({"loss": 0.0, "count": 3.0, "right": 3.0}, answers, data.references)
        assert found["f1"] == f1 and found["accuracy"] == 1  # IO cannot distinguish two adjacent entities from one


def test_labels_of_a_stranger_s_model_are_classes_where_they_are_no_tags():
    assert json.dumps(task_of("tagging", ["LABEL_0", "LABEL_1"]).labels) and not task_of("tagging", ["X", "Y"]).entities


def test_2000_words_in_are_2000_words_out_each_tagged_in_its_own_window(tokenizer):
    kinds = ["Ann", "#", "\x00", "\U0001f600", "Paris", "\u200d", "", " ", "saw", "\ufeff", "New" * 30]
    words = [kinds[number] for number in np.random.default_rng(3).integers(0, len(kinds), 2000)]
    for kind in (tokenizer, load_tokenizer("bytes")):
        loaded = make(kind)
        (answer,) = loaded.predict([words])
        assert answer["tokens"] == words and len(answer["tags"]) == 2000
        data = loaded.task.features(loaded.task.read([{"tokens": words}]), kind, batch_size=50, max_length=20)
        for step in range(data.batches_per_epoch):
            batch = data.batch(step)
            best = np.asarray(loaded.model(batch)["logits"]).argmax(-1)
            for row, window in enumerate(data.base.rows(step)):
                for word in np.flatnonzero(data.window == window) if window >= 0 else ():
                    assert answer["tags"][word] == LABELS[best[row, data.place[word]]]
        assert all(answer["tags"][word] == "O" for word in np.flatnonzero(data.window < 0))
        assert data.windows[0] > 100 and data.tokenless > 100


@pytest.mark.parametrize("length", [8, 13, 20])
def test_the_window_leaves_what_is_scored_alone(length, tokenizer):
    loaded = make(tokenizer, decoding="viterbi", overlap=2)
    source = Sentences("s", {"tokens": SENTENCES, "tags": TAGS, "document": [1, 1, 1, 1]})
    for context in (0, 3):
        task = task_of("tagging", LABELS, decoding="viterbi", overlap=2, context=context)
        data = task.features(source, tokenizer, batch_size=3, max_length=length)
        seen = []
        task.metrics = lambda sums, answers, references: seen.append((sums["count"], answers, references)) or {}
        Evaluator(loaded.model, task).evaluate(data)
        count, answers, references = seen[0]
        assert (count, references) == (sum(map(len, SENTENCES)) - 2, TAGS)
        assert [len(answer["tags"]) for answer in answers] == list(map(len, TAGS))


def test_windows_keep_the_contract_of_tasks(tokenizer, tmp_path):
    model = tfzoo.build("bert_tiny", task="tagging", labels=LABELS, **{**SMALL, "vocab_size": tokenizer.vocab_size,
                                                                       "dropout": 0.0})
    model.task = task_of("tagging", LABELS, overlap=3, context=2, decoding="viterbi", strict=True)
    source = Sentences("s", {"tokens": SENTENCES, "tags": TAGS, "predicate": [3, 0, 0, 2]})
    batch = model.task.features(source, tokenizer, batch_size=8, max_length=14).batch(0)
    check_task(model, batch, tmp_path)


def test_labels_with_ends_are_trained_decoded_and_scored_in_their_scheme():
    labels = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "S-LOC", "B-LOC", "I-LOC", "E-LOC"]
    source = Sentences("s", {"tokens": [["a", "b", "c", "d"]], "tags": [["B-PER", "I-PER", "I-PER", "B-LOC"]]})
    task = task_of("tagging", labels, decoding="viterbi", strict=True)
    data = task.features(source, load_tokenizer("bytes"), batch_size=1, max_length=16)
    batch = data.batch(0)
    assert [labels[label] for label in batch["labels"][0][data.place]] == ["B-PER", "I-PER", "E-PER", "S-LOC"]
    scores = np.log(np.eye(9)[batch["labels"]] * 0.9 + 0.01).astype(np.float32)
    scores[0, data.place[2]] = np.log(np.eye(9)[labels.index("S-PER")] * 0.4 + np.eye(9)[3] * 0.3 + 0.01)
    answers = task.answers({"scores": scores}, data)  # S-PER is likelier, but cannot follow I-PER
    assert answers[0]["tags"] == ["B-PER", "I-PER", "E-PER", "S-LOC"]
    metrics = task.metrics({"loss": 0.0, "count": 4.0, "right": 4.0}, answers, data.references)
    assert (metrics["f1"], metrics["accuracy"]) == (1, 1)
    broken = [{"tags": ["B-PER", "I-PER", "S-PER", "S-LOC"]}]  # conlleval reads the words 0-1, 2 and 3 as entities
    strict, plain = (task_of("tagging", labels, strict=strict).metrics(
        {"loss": 0.0, "count": 4.0, "right": 3.0}, broken, data.references) for strict in (True, False))
    assert (strict["precision"], plain["precision"]) == (1 / 2, 1 / 3) and strict["accuracy"] == 3 / 4
    with pytest.raises(ConfigError, match="strict scoring requires labels in a scheme"):
        task_of("tagging", ["O", "I-PER"], strict=True)


def test_entities_of_plain_text_are_found_in_code_points(tokenizer):
    text = "\U0001f600\U0001f600  Ann\u00a0Lee, e\u0301 (New York)\U0001f468\u200d\U0001f469"
    task = task_of("tagging", LABELS)
    data = task.features(task.read([{"text": text}]), tokenizer, batch_size=1, max_length=200)
    words = data.source.columns["tokens"][0]
    tags = np.zeros((1, 200), int)
    for word, tag in (("Ann", 3), ("Lee", 4), ("New", 1), ("York", 2)):
        tags[0, data.place[words.index(word)]] = tag
    (answer,) = task.answers({"tags": tags}, data)
    assert answer["entities"] == [{"type": "PER", "start": 4, "end": 11, "text": "Ann\u00a0Lee"},
                                  {"type": "LOC", "start": 17, "end": 25, "text": "New York"}]
    assert text[4:11] == "Ann\u00a0Lee" and text[17:25] == "New York"


def test_a_hugging_face_folder_of_a_tagger_has_no_settings_of_tfzoo(tokenizer, tmp_path):
    loaded = make(tokenizer, decoding="viterbi", overlap=5, context=3, strict=True)
    tfzoo.save(loaded, tmp_path / "theirs", "huggingface")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"] and not {"decoding", "overlap"} & {*config}
    again = tfzoo.load(tmp_path / "theirs")
    assert again.config["settings"] == {} and again.task.settings == task_of("tagging", LABELS).settings
    loaded.model.task = again.task
    assert again.predict(SENTENCES) == loaded.predict(SENTENCES)
    loaded.config["settings"]["predicates"] = True
    with pytest.raises(ConfigError, match="tagging:predicates has no counterpart"):
        tfzoo.save(loaded, tmp_path / "roles", "huggingface")


@pytest.mark.slow
def test_a_saved_model_decodes_in_its_graph_as_prediction_does(tokenizer, tmp_path):
    loaded = make(tokenizer, decoding="viterbi")
    export(loaded, tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    texts = ["Ann Lee saw New York", "", "# \x00 Paris", "Paris hosts Ann"]
    outputs = {key: value.numpy() for key, value in served(text=tf.constant(texts)).items()}
    for row, answer in enumerate(loaded.predict(texts)):
        assert outputs["cut"][row] == 0
        assert [tag.decode() for tag in outputs["tags"][row, :outputs["length"][row]]] == answer["tags"]
    plain = make(tokenizer)
    plain.model.set_weights(loaded.model.get_weights())
    assert [answer["tags"] for answer in plain.predict(texts)] != [answer["tags"] for answer in loaded.predict(texts)]
