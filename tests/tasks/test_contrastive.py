"""Contrastive learning: rows of several texts by hand, losses in NumPy, equal updates, and vectors in and out."""
import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import tfzoo
from tests.helpers import check_task
from tfzoo.checkpoints import Loaded
from tfzoo.data.source import Source, read_files
from tfzoo.errors import ConfigError, DataError
from tfzoo.export import serving_function
from tfzoo.layers import context, initial_weights, training_step
from tfzoo.tasks import build_for, task_of
from tfzoo.tasks.contrastive import GROUPS, ranking_losses
from tfzoo.tasks.embedding import PLAIN
from tfzoo.text import learn_tokenizer, load_tokenizer
from tfzoo.training.evaluator import Evaluator
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.strategy import check_batch
from tfzoo.training.trainer import Trainer

WORDS = "a man plays the old guitar while two dogs run in green grass and nobody sleeps".split()
SIZES = {"num_layers": 1, "hidden_dim": 24, "num_heads": 4, "ffn_dim": 40, "max_length": 24}


def text_of(rng, low=1, high=9):
    return " ".join(rng.choice(WORDS, rng.integers(low, high)))


def pairs(count, seed=0, most=3):
    rng = np.random.default_rng(seed)
    return [{"text": text_of(rng), "text_pair": text_of(rng), "negatives": [
        text_of(rng) for _ in range(rng.integers(most + 1))]} for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer("learn:wordpiece:100", [" ".join(WORDS)] * 3)


def make(tokenizer, task, name="bert_tiny", dropout=0.0):
    with initial_weights(0):
        model = build_for(name, task, vocab_size=tokenizer.vocab_size, dropout=dropout, **SIZES)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return Loaded(model, tokenizer, {"model": name, "task": task.name, "labels": None, "settings": task.settings,
                                     "max_length": 24})


def features(task, rows, tokenizer, **options):
    rows = [GROUPS.row(row)[0] for row in rows]
    return task.features(Source.of_rows("s", rows), tokenizer, **{"batch_size": 4, "max_length": 24, **options})


def slow_losses(vectors, texts, group, temperature):
    """Compute losses and whether the positive is the most similar, one candidate at a time."""
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    losses = []
    for row in range(len(texts)):
        rows = range(row // group * group, min(row // group * group + group, len(texts)))
        right = {texts[other, 1] for other in rows if texts[other, 0] == texts[row, 0]} | {texts[row, 0]}
        wrong = [vectors[row, 0] @ vectors[other, slot] for other in rows for slot in range(1, texts.shape[1])
                 if texts[other, slot] >= 0 and texts[other, slot] not in right]
        mine = vectors[row, 0] @ vectors[row, 1]
        losses.append((np.log(np.exp(np.array([mine, *wrong]) / temperature).sum()) - mine / temperature,
                       all(mine > other for other in wrong)))
    return np.array(losses).T


def test_a_row_has_its_texts_and_equal_texts_are_found(tokenizer):
    rows = [{"text": "two dogs", "text_pair": "a man", "negatives": ["old", "green grass run in", "TWO dogs"]},
            {"text": "a man", "text_pair": "nobody", "negatives": []},
            {"text": "two", "text_pair": "old", "negatives": ["grass"]}]
    data = features(task_of("contrastive"), rows, tokenizer, batch_size=2)
    seen = {}
    for step in range(data.batches_per_epoch):
        batch = data.batch(step)
        for row, example in enumerate(data.rows(step)):
            if example < 0:
                assert not batch["weights"][row] and (batch["texts"][row] == -1).all()
                continue
            expected = [rows[example]["text"], rows[example]["text_pair"], *rows[example]["negatives"]]
            assert batch["weights"][row] == 1 and (batch["texts"][row] >= 0).sum() == len(expected)
            for slot, text in enumerate(expected):
                real = batch["padding_mask"][row, slot].astype(bool)
                assert np.array_equal(batch["token_ids"][row, slot][real], tokenizer([text])["token_ids"][0])
                assert seen.setdefault(text.lower(), batch["texts"][row, slot]) == batch["texts"][row, slot]
            assert not batch["padding_mask"][row, len(expected):].any()
    assert len(set(seen.values())) == len(seen) == 7
    assert data.notes(Source("s", {"text": ["x"]}), 24) == [
        "s: 1 hard negatives equal the text or text_pair of their row, and are left out", "s: the loss compares fewer "
        "rows than the --group_size=32 of training, since that does not divide --batch_size=2"]
    short = features(task_of("contrastive"), rows, tokenizer, max_length=4)
    assert "1 of 8 different texts were truncated to 4 tokens" in short.notes(Source("s", {"text": ["x"]}), 4)[0]


@pytest.mark.parametrize("group", [1, 3, 4, 7, 99])
def test_losses_are_those_of_a_loop_over_candidates(group):
    rng = np.random.default_rng(group)
    vectors, texts = rng.standard_normal((7, 4, 5)).astype(np.float32), rng.integers(0, 12, (7, 4))
    vectors[2] = vectors[1]
    texts[5:, 2:] = -1  # no hard negatives
    texts[1, 0], texts[2, 0] = 3, 3  # an anchor with two positives
    losses, right = ranking_losses(vectors, texts.astype(np.int32), group, 0.3)
    expected, best = slow_losses(vectors.astype(np.float64), texts, group, 0.3)
    assert np.abs(losses - expected).max() < 1e-5 and np.array_equal(right, best)
    assert group > 1 or not np.any(losses[5:]) and best.any()


def test_padding_rows_are_no_negatives_and_missing_texts_have_finite_gradients(tokenizer):
    task = task_of("contrastive", group_size=4)
    model = make(tokenizer, task).model
    batch = features(task, pairs(2), tokenizer).batch(0)
    alone = {key: value[:2] for key, value in batch.items()}
    found = []
    for part in (batch, alone):
        with tf.GradientTape() as tape:
            terms, sums = task.objective(lambda inputs, draw=0: model(inputs, only_read=True, training=True), part)
        gradients = tape.gradient(terms["loss"], model.trainable_variables)
        found.append([terms["loss"], sums["count"], *map(tf.convert_to_tensor, gradients)])
    assert found[0][1] == 2 and all(np.isfinite(value).all() for value in found[0])
    assert all(np.abs(one - other).max() < 1e-4 * max(1, np.abs(one).max()) for one, other in zip(*found))


def test_two_passes_of_a_text_differ_by_dropout_alone(tokenizer):
    task = task_of("contrastive", pooling="first")
    task.adapt(Source("s", {"text": ["x"]}))
    assert task.projected
    model = make(tokenizer, task, dropout=0.2).model
    batch = features(task, [{"text": "two dogs run"}, {"text": "a man"}], tokenizer, batch_size=2).batch(0)
    drawn = []

    def forward(inputs, *, draw=0):
        with context.changed(draw=draw):
            drawn.append((draw, model(inputs, only_read=True, training=True)["embedding"]))
        return {"embedding": drawn[-1][1]}

    with training_step(1, 2, 0):
        loss = task.objective(forward, batch)[0]["loss"]
        again = forward(batch)["embedding"]
    assert [draw for draw, _ in drawn] == [0, 1, 0] and drawn[0][1].shape == (2, 1, 24)
    assert np.array_equal(again, drawn[0][1]) and np.abs(again - drawn[1][1]).min(-1).max() > 0
    vectors, texts = np.concatenate([drawn[0][1], drawn[1][1]], 1), np.array([[0, 0], [1, 1]])
    assert float(loss) == pytest.approx(slow_losses(vectors, texts, 32, 0.05)[0].sum(), rel=1e-4)
    assert np.abs(vectors).max() <= 1  # of tanh
    plain = model(batch)["embedding"]
    assert np.abs(plain[:, 0] - model.body({key: batch[key][:, 0] for key in ("token_ids", "padding_mask")})[
        "sequence"][:, 0]).max() < 1e-5  # without the projection


def test_scores_are_scaled_to_cosines_by_the_range_of_training(tokenizer):
    rows = [{"text": "two dogs", "text_pair": "a man", "label": label} for label in (1, 2.5, 5)]
    source = Source.of_rows("s", [GROUPS.row(row)[0] for row in rows])
    task = task_of("contrastive")
    task.adapt(source)
    assert (task.min_score, task.max_score) == (1, 5) == (task.settings["min_score"], task.settings["max_score"])
    batch = features(task, rows, tokenizer, batch_size=3).batch(0)
    assert batch["scores"] == pytest.approx([0, 0.375, 1])
    vectors = tf.constant([[[1., 0.], [1., 1.]]] * 3)
    loss = task.objective(lambda _: {"embedding": vectors}, batch)[0]["loss"]
    assert float(loss) == pytest.approx(sum((0.5 ** 0.5 - score) ** 2 for score in (0, 0.375, 1)), rel=1e-6)
    same = [{**row, "label": 3} for row in rows]
    with pytest.raises(DataError, match="all 3 scores .label. are 3, so they have no range: give --min_score and"):
        task_of("contrastive").adapt(Source.of_rows("s", [GROUPS.row(row)[0] for row in same]))
    with pytest.raises(DataError, match="score of example 3 is 5, but must be from --min_score=1 to --max_score=4"):
        task_of("contrastive", max_score=4.0).adapt(source)
    with pytest.raises(ConfigError, match="--min_score=3 must be less than --max_score=2"):
        task_of("contrastive", min_score=3.0, max_score=2.0)
    task = task_of("contrastive")  # trained without scores
    assert features(task, same, tokenizer, batch_size=3).batch(0)["scores"].tolist() == [0, 0, 0]


def test_a_model_keeps_the_contract_of_tasks(tokenizer, tmp_path):
    rows = [{"text": "two dogs run", "text_pair": "a man", "label": label} for label in (0, 1, 3)]
    task = task_of("contrastive", min_score=0.0, max_score=4.0)
    model = make(tokenizer, task).model
    batch = features(task, rows, tokenizer, batch_size=3).batch(0)
    (loss, sums), vectors = check_task(model, batch, tmp_path), np.asarray(model(batch)["embedding"], np.float64)
    cosines = (vectors[:, 0] * vectors[:, 1]).sum(-1) / np.linalg.norm(vectors, axis=-1).prod(-1)
    assert float(loss["loss"]) == pytest.approx(((cosines - [0, 0.25, 0.75]) ** 2).sum(), rel=1e-5)
    assert sums["count"] == 3


def test_evaluation_ranks_all_texts_of_the_data_once(tokenizer, capsys):
    rows = pairs(30, most=2) + [{"text": "a man", "text_pair": "old man"}, {"text": "a man", "text_pair": "old dogs"}]
    task = task_of("contrastive", group_size=4)
    loaded = make(tokenizer, task)
    data = features(task, rows, tokenizer)
    assert task.better == ("mrr", max)
    found = Evaluator(loaded.model, task).evaluate(data)
    texts = sorted({text for row in rows for text in (row["text"], row["text_pair"], *row.get("negatives", ()))})
    vectors = loaded.embed(texts).astype(np.float64)
    vector = dict(zip(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
    candidates = {text for row in rows for text in (row["text_pair"], *row.get("negatives", ()))}
    firsts, recalls = [], []
    for anchor in {row["text"] for row in rows}:
        right = {row["text_pair"] for row in rows if row["text"] == anchor}
        ranked = sorted((candidates - {anchor}) | right, key=lambda text: (
            -round(vector[anchor] @ vector[text], 5), text in right))
        ranks = [ranked.index(text) + 1 for text in right]
        firsts.append(1 / min(ranks) if min(ranks) <= 10 else 0)
        recalls.append(np.mean([rank <= 5 for rank in ranks]))
    assert found["mrr"] == pytest.approx(np.mean(firsts)) and found["recall@5"] == pytest.approx(np.mean(recalls))
    assert 0 < found["mrr"] < 1 and found["loss"] > 0

    scored = [{"text": row["text"], "text_pair": row["text_pair"], "label": number % 7}
              for number, row in enumerate(rows)]
    data = features(task, scored, tokenizer)
    found = Evaluator(loaded.model, task).evaluate(data)
    cosines = [vector[row["text"]] @ vector[row["text_pair"]] for row in scored]
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(cosines, np.arange(32) % 7)[0], abs=2e-3)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(cosines, np.arange(32) % 7)[0], abs=1e-5)
    assert task.better == ("spearman", max) and "accuracy" not in found
    assert "the loss takes its scores from 0 to 6" in data.notes(Source("s", {"text": ["x"]}), 24)[-1]
    flat = [{**row, "label": 3} for row in scored]
    assert Evaluator(loaded.model, task).evaluate(features(task, flat, tokenizer))["spearman"] == 0
    assert "all 32 scores are equal: pearson and spearman are undefined" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_microbatches_of_whole_groups_change_nothing(kind, tokenizer):
    rows = pairs(14, most=1) if kind == "pairs" else [{"text": row["text"]} for row in pairs(14)]
    found = []
    for parts in (1, 4):
        task = task_of("contrastive", pooling="first", group_size=4, similarity_temperature=0.5)
        task.adapt(Source.of_rows("s", [GROUPS.row(row)[0] for row in rows]))
        model = make(tokenizer, task, dropout=0.2).model
        optimizer = make_optimizer("adamw", WarmUp(1e-3, 20, 4), model.trainable_variables, 0.1)
        trainer = Trainer(model, task, optimizer, seed=5, clip_norm=0.0, microbatches=parts)
        sums, norm, *_ = trainer.train_step(features(task, rows, tokenizer, batch_size=16, training=True).batch(0))
        arrays = trainer.arrays()["optimizer"]
        found.append([float(sums["loss"]), float(norm), *(arrays[path] for path in sorted(arrays) if "moment" in path)])
    assert found[1][:2] == pytest.approx(found[0][:2], rel=1e-5)
    assert all(np.abs(one - two).max() < 1e-6 for one, two in zip(found[0][2:], found[1][2:], strict=True))


def test_the_pooling_of_the_model_to_start_from_is_kept_if_it_can_be_trained():
    source, theirs = Source("s", {"text": ["a", "b"]}), {**PLAIN, "pooling": ["cls"], "normalize": True}
    for pooling, expected in (("auto", theirs), ("mean", {**PLAIN, "strip": True})):
        task = task_of("contrastive", pooling=pooling)
        task.adapt(source, theirs)
        assert task.embedding == expected and task_of("contrastive", **task.settings).embedding == expected
        assert task.projected == (pooling == "auto")
    for change, says in (({"problem": "x has Dense"}, "x has Dense; give --pooling=mean"),
                         ({"prompts": {"q": "query: "}, "default_prompt": "q", "include_prompt": False},
                          "the model pools without its default prompt, which cannot be trained; give --pooling=mean")):
        with pytest.raises(ConfigError, match=says):
            task_of("contrastive").adapt(source, {**PLAIN, **change})
        task_of("contrastive", pooling="max").adapt(source, {**PLAIN, **change})


def test_groups_must_divide_a_microbatch():
    strategy = tf.distribute.get_strategy()
    check_batch(strategy, 32, 2, 16)
    with pytest.raises(ConfigError, match="--group_size=32: must divide the 16 rows of a microbatch .--batch_size=32"):
        check_batch(strategy, 32, 2, 32)
    with pytest.raises(ConfigError, match="--group_size=1 leaves no negatives"):
        task_of("contrastive", group_size=1).adapt(Source("s", {"text": ["a", "b"]}))


@pytest.mark.parametrize("name, kind", [("bert_tiny", "wordpiece"), ("gpt2_tiny", "bytes")])
def test_the_vectors_are_the_same_predicted_embedded_saved_exported_and_converted(name, kind, tokenizer, tmp_path):
    tokenizer = tokenizer if kind == "wordpiece" else load_tokenizer("bytes")
    task = task_of("contrastive", pooling="max" if name == "gpt2_tiny" else "first", projected=name == "bert_tiny")
    loaded = make(tokenizer, task, name)
    texts = ["two dogs", "a man plays the old guitar while nobody sleeps", "\u2003 green\u00a0grass\x1c ", "x " * 40]
    vectors = loaded.embed(texts)
    assert np.abs([answer["embedding"] for answer in loaded.predict(texts)] - vectors).max() < 1e-5
    assert np.abs(loaded.embed(texts, pooling="mean") - vectors).max() > 0.1
    served = serving_function(loaded)(tf.constant(texts))
    assert np.abs(served["embedding"] - vectors).max() < 1e-5 and served["cut"].numpy().astype(bool).tolist() == [
        False, kind == "bytes", False, True]
    for format in ("tfzoo", "huggingface"):
        tfzoo.save(loaded, tmp_path / format, format=format)
        again = tfzoo.load(tmp_path / format)
        assert np.abs(again.embed(texts) - vectors).max() < 1e-5
    assert again.config["task"] is None and not again.dropped
    assert json.loads((tmp_path / "huggingface" / "1_Pooling" / "config.json").read_text())[
        f"pooling_mode_{'max_tokens' if name == 'gpt2_tiny' else 'cls_token'}"]
    loaded.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.task.settings == task.settings
    row = {"text": texts[0], "text_pair": texts[1]}
    answer = task.answers({"embedding": np.stack([vectors[:2]])}, None)[0]
    assert answer["similarity"] == pytest.approx(
        vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]), rel=1e-5)
    assert GROUPS.row(row, labelled=False) == (row, "")


@pytest.mark.parametrize("row, says", [
    ({"text": " "}, "text is empty"), ({"text": "a", "text_pair": ""}, "text_pair is empty"),
    ({"text": "a", "text_pair": "b", "negatives": ["c", " "]}, r"negatives\[1\] is empty"),
    ({"text": "a", "text_pair": "b", "negatives": "c"}, "negatives is 'c', not a list of strings"),
    ({"text": "a", "text_pair": "b", "label": "entailment"}, "label is 'entailment', not a finite number"),
    ({"text": "a", "text_pair": "b", "label": True}, "label is True, not a finite number"),
    ({"text": "a", "label": 1}, r"a label \(the score of a pair\) requires text_pair"),
    ({"text": "a", "negatives": ["b"]}, "a list of negatives requires text_pair"),
    ({"text": "a", "text_pair": "b", "negatives": ["c"], "label": 1}, "both label and negatives")])
def test_a_bad_row_is_one_line_with_file_and_number(row, says, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "x", "text_pair": "y"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"train.jsonl line 2: {says}") as error:
        read_files([path], GROUPS)
    assert len(str(error.value).splitlines()) == 1


def test_rows_without_negatives_are_among_those_with_some_and_kinds_do_not_mix(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "text_pair": "b"}\n{"text": "c", "text_pair": "d", "negatives": ["e"]}\n')
    assert read_files([path], GROUPS).columns["negatives"] == [[], ["e"]]
    path.write_text('{"text": "a", "text_pair": "b"}\n{"text": "c", "text_pair": "d", "label": 2}\n')
    with pytest.raises(DataError, match="example 2 has no negatives, but others do|example 1 has no value"):
        read_files([path], GROUPS)
    tsv = tmp_path / "train.tsv"
    tsv.write_text("text\ttext_pair\tlabel\na\tb\t4.5\n")
    assert read_files([tsv], GROUPS).columns == {"text": ["a"], "text_pair": ["b"], "value": [4.5]}
