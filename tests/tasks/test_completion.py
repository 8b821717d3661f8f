"""Completion: the loss is that of answers alone, packed or not; long histories are cut from their front."""
import json

import numpy as np
import pytest
import tensorflow as tf

import tfzoo
from tests.helpers import check_task
from tests.tasks.test_tasks import SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.data.completions import COMPLETIONS, Completions, prompt_of
from tfzoo.data.readers import Lines, read_rows
from tfzoo.errors import ConfigError, DataError
from tfzoo.generation import Generator, Options
from tfzoo.tasks import task_of
from tfzoo.text import learn_tokenizer
from tfzoo.text.byte import OFFSET, ByteTokenizer
from tfzoo.text.chat import Chat
from tfzoo.training.evaluator import Evaluator
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.trainer import Trainer

BYTES = ByteTokenizer()
END, PAD = BYTES.end_id, BYTES.pad_id
PAIRS = [{"prompt": "1+1=", "completion": "2"}, {"prompt": "", "completion": "nothing"},
         {"prompt": "ab", "completion": "c"}, {"prompt": "x" * 9, "completion": "yz"}]
TALK = [{"role": "system", "content": "S"}, {"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}]


def ids(text):
    return [OFFSET + byte for byte in text.encode()]


def batches(rows, tokenizer=BYTES, training=False, length=20, size=4, **settings):
    source = Completions.of_rows("rows", rows)
    task = task_of("completion", **settings)
    return task.features(source, tokenizer, batch_size=size, max_length=length, training=training, seed=1), source


def targets_of(batch, row):
    return batch["labels"][row][batch["weights"][row] > 0].tolist()


def test_prompt_and_completion_are_encoded_apart_and_only_the_completion_is_a_target():
    data, _ = batches(PAIRS)
    batch = data.batch(0)
    for row, example in enumerate(data.rows(0)):
        before, after = ids(PAIRS[example]["prompt"]), ids(PAIRS[example]["completion"])
        whole = [END, *before, *after, END]  # the end token opens a text, as in `generate`
        count = len(whole) - 1
        assert batch["token_ids"][row].tolist() == whole[:-1] + [PAD] * (len(batch["token_ids"][row]) - count)
        assert batch["padding_mask"][row].sum() == count and targets_of(batch, row) == [*after, END]
        assert np.flatnonzero(batch["weights"][row]).tolist() == list(range(len(before), count))
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row] > 0].tolist()
        assert prompt == BYTES.beginning(before) and batch["prompt_mask"][row, -1] == 1  # padded on the left
    assert data.references == [row["completion"] for row in PAIRS]
    # BPE would join "1" and "0" into one token.
    tokenizer = learn_tokenizer("learn:bpe:300", ["10 10 10"] * 9)
    assert len(tokenizer.encode(["10"])[0]) == 1
    data, _ = batches([{"prompt": "1", "completion": "0"}], tokenizer, size=1)
    assert targets_of(data.batch(0), 0) == [*tokenizer.encode(["0"])[0].numpy(), tokenizer.end_id]


def test_every_turn_of_the_assistant_and_its_end_is_a_target():
    data, _ = batches([{"messages": TALK}], length=199, size=1)
    batch = data.batch(0)
    text = "System:\nS\n\nUser:\nq1\n\nAssistant:\na1"
    assert targets_of(batch, 0) == [*ids("a1"), END, *ids("a2"), END] and data.references == ["a2"]
    assert batch["token_ids"][0][:len(text) + 2].tolist() == [END, *ids(text), END]
    prompt = batch["prompt_ids"][0][batch["prompt_mask"][0] > 0].tolist()
    assert prompt == [END, *ids(text), END, *ids("User:\nq2\n\nAssistant:\n")] == Chat(BYTES).prompts([TALK[:4]])[0]


def test_packed_examples_keep_apart_and_have_the_loss_of_separate_ones():
    rng = np.random.default_rng(0)
    rows = [{"prompt": "p" * rng.integers(0, 8), "completion": "abcdefgh"[:rng.integers(1, 9)]} for _ in range(30)]
    model = tfzoo.build("gpt2_tiny", task="completion", **{**SMALL, "vocab_size": 260, "dropout": 0.0})
    for variable in model.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    sums = {}
    for pack in (False, True):
        data, source = batches(rows, training=True, pack=pack)
        assert ("packed into" in data.notes(source, 20)[0]) if pack else not data.notes(source, 20)
        seen, totals = [], np.zeros(3)
        for step in range(data.batches_per_epoch):
            batch = data.batch(step)
            assert "prompt_ids" not in batch and ("document_ids" in batch) == pack
            seen += data.examples(step).tolist()
            if pack:  # each document is one whole example
                for row in range(4):
                    for document in range(1, batch["document_ids"][row].max() + 1):
                        inside = batch["document_ids"][row] == document
                        assert batch["position_ids"][row][inside].tolist() == list(range(inside.sum()))
                        assert (batch["token_ids"][row][inside][1:] == batch["labels"][row][inside][:-1]).all()
            found = model.task.objective(lambda given: model(given, only_read=True), batch)[1]
            totals += [float(found[key]) for key in ("loss", "right", "count")]
        assert sorted(seen) == list(range(30))
        sums[pack] = totals, data.batches_per_epoch
    assert np.allclose(sums[True][0], sums[False][0], rtol=1e-5) and sums[True][1] < sums[False][1]
    assert sums[True][0][2] == sum(len(row["completion"]) + 1 for row in rows)


def test_a_long_history_is_cut_from_its_front_and_a_long_answer_at_its_end():
    rows = [{"prompt": "0123456789", "completion": "abc"}, {"prompt": "0123456789", "completion": "abcdefghij"},
            {"prompt": "0", "completion": "abcdefghij"}, {"prompt": "0", "completion": "abcdefghijkl"}]
    data, source = batches(rows, length=12, max_target_length=4)
    batch, found = data.batch(0), {}
    for row, example in enumerate(data.rows(0)):
        found[example] = BYTES.decode([batch["token_ids"][row]])[0], BYTES.decode([targets_of(batch, row)])[0]
        assert (targets_of(batch, row)[-1] == END) == (example == 0)
    # Row 0 has 8 tokens for the opening and the prompt; row 1 no fewer, so its answer is cut; row 2 lacks one token.
    assert found == {0: ("3456789abc", "abc"), 1: ("3456789abc", "abcd"), 2: ("0abcdefghi", "abcdefghij"),
                     3: ("0abcdefghi", "abcdefghij")}
    assert data.notes(source, 12) == [
        "rows: 2 of 4 prompts were cut from the front to fit 12 tokens",
        "rows: 3 of 4 answers were cut at their end, and have no end token, to fit 12 tokens"]
    prompts = [BYTES.decode([row[mask > 0]])[0] for row, mask in zip(batch["prompt_ids"], batch["prompt_mask"])]
    assert dict(zip(data.rows(0), prompts)) == {0: "3456789", 1: "3456789", 2: "0", 3: "0"}
    with pytest.raises(ConfigError, match="no room for a prompt"):
        batches(rows, length=5, max_target_length=4)


def test_old_questions_and_answers_leave_first_and_the_system_message_stays():
    chat, room = Chat(BYTES), 1 + len("System:\nS\n\nUser:\nq2\n\nAssistant:\n")
    assert prompt_of(chat, TALK[:4], 200) == (chat.prompts([TALK[:4]])[0], False)
    found, cut = prompt_of(chat, TALK[:4], room)
    assert BYTES.decode([found]) == ["System:\nS\n\nUser:\nq2\n\nAssistant:\n"] and cut
    found, cut = prompt_of(chat, TALK[:4], 14)
    assert BYTES.decode([found]) == ["\n\nAssistant:\n"] and cut and found[0] == END
    data, source = batches([{"messages": TALK}, {"messages": TALK[1:3]}], length=room + 3, max_target_length=3, size=2)
    batch = data.batch(0)
    first = data.rows(0).tolist().index(0)
    assert targets_of(batch, first) == [*ids("a2"), END]
    assert data.notes(source, 40)[0].startswith("rows: 1 of 2 histories were cut from the front")


def test_a_prompt_may_be_longer_than_its_row_whose_history_was_shortened():
    question, answer = ({"role": role, "content": "x" * 30} for role in ("user", "assistant"))
    asked = [question, answer, {"role": "user", "content": "y"}]
    data, source = batches([{"messages": [*asked, {"role": "assistant", "content": "z" * 60}]}], length=150, size=1,
                           max_target_length=20)
    batch = data.batch(0)
    assert batch["prompt_ids"][batch["prompt_mask"] > 0].tolist() == Chat(BYTES).prompts([asked])[0]
    assert targets_of(batch, 0) == [*ids("z" * 60), END] and batch["padding_mask"].sum() < batch["prompt_mask"].sum()
    assert data.notes(source, 150) == ["rows: 1 of 1 histories were cut from the front to fit 150 tokens"]


@pytest.mark.parametrize("row, says", [
    ({"prompt": "a"}, "no value for completion"), ({"completion": "a"}, "no value for prompt"),
    ({"prompt": "a", "completion": " \n"}, "an empty completion"), ({"prompt": 1, "completion": "a"}, "not a string"),
    ({"prompt": "a", "messages": TALK}, "both messages and prompt"), ({"messages": "hi"}, "not a list of objects"),
    ({"completion": "a", "messages": TALK}, "both messages and completion"), ({"text": "a"}, "no value for prompt"),
    ({"messages": TALK[1:2]}, "must be the assistant's"), ({"messages": TALK[2:]}, "message 1 is the assistant's"),
    ({"messages": [{"role": "bot", "content": "x"}]}, "the role 'bot'"), ({"messages": []}, "0 messages")])
def test_bad_rows_are_named_with_file_and_line(row, says, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(PAIRS[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"rows.jsonl line 2: .*{says}"):
        list(read_rows(Lines(path), COMPLETIONS))
    skipped = []
    assert len(list(read_rows(Lines(path), COMPLETIONS, max_bad_rows=1, on_bad=skipped.append))) == 1 == len(skipped)


def test_prompts_need_no_completion_in_prediction(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a"}) + "\n" + json.dumps({"messages": TALK[:4]}) + "\n")
    assert list(read_rows(Lines(path), COMPLETIONS, labelled=False)) == [{"prompt": "a"}, {"messages": TALK[:4]}]
    with pytest.raises(DataError, match="all examples or none must have one"):
        task_of("completion").read([{"prompt": "a"}, {"messages": TALK[:4]}])
    data, _ = batches([{"prompt": "a"}, {"prompt": "bcd"}], size=2)
    batch = data.batch(0)
    assert batch.keys() == {"token_ids", "padding_mask", "prompt_ids", "prompt_mask", "end_ids", "answer_ids"}
    assert data.references is None and (batch["answer_ids"] == END).all() and batch["answer_ids"].shape == (2, 10)


@pytest.mark.parametrize("name", ["gpt2_tiny", "llama_tiny"])
def test_it_keeps_the_contract_of_a_task(name, tmp_path):
    model = tfzoo.build(name, task="completion", **{**SMALL, "vocab_size": 260, "dropout": 0.0})
    check_task(model, batches(PAIRS)[0].batch(0), tmp_path)
    with pytest.raises(ConfigError, match="bert_tiny cannot learn completion: choose a model such as"):
        tfzoo.build("bert_tiny", task="completion")
    with pytest.raises(ConfigError, match="cannot learn completion"):
        tfzoo.build("t5_tiny", task="completion")
    assert tf.is_tensor(model(batches(PAIRS, training=True)[0].batch(0))["logits"])


@pytest.mark.slow
def test_an_update_is_the_same_however_its_packed_rows_are_split():
    rng = np.random.default_rng(0)
    rows = [{"prompt": "p" * rng.integers(0, 8), "completion": "abcdefgh"[:rng.integers(1, 9)]} for _ in range(40)]
    left = []
    for parts in (1, 2, 4):
        tf.keras.utils.set_random_seed(0)
        model = tfzoo.build("gpt2_tiny", task="completion", **{**SMALL, "vocab_size": 260, "dropout": 0.2})
        optimizer = make_optimizer("adamw", WarmUp(1e-2, 9, 1), model.trainable_variables, 0.1)
        trainer = Trainer(model, model.task, optimizer, seed=3, clip_norm=0.5, microbatches=parts)
        losses = [float(sums["loss"]) for _, sums, *_ in trainer.train(batches(rows, training=True)[0], 4)]
        left.append((losses, trainer.arrays()["model"]))
    for losses, weights in left[1:]:
        assert np.allclose(losses, left[0][0], rtol=1e-5)
        assert all(np.allclose(weights[path], value, atol=2e-5) for path, value in left[0][1].items())


def make(tokenizer, length=64, name="gpt2_tiny"):
    model = tfzoo.build(name, task="completion", **{**SMALL, "num_layers": 1, "max_length": length,
                                                    "vocab_size": tokenizer.vocab_size})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.5 * rng.standard_normal(variable.shape).astype(np.float32))
    return Loaded(model, tokenizer, {"model": name, "task": "completion", "labels": None,
                                     "settings": model.task.settings, "max_length": length})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2_tiny", "llama_tiny"])
def test_evaluation_and_prediction_generate_what_the_generator_does(name):
    loaded, rows = make(BYTES, name=name), [*PAIRS, {"prompt": "y" * 60, "completion": "no"}]
    data, _ = batches(rows, length=64, size=6, max_target_length=6)
    model, found = loaded.model, {}
    predict = tf.function(lambda batch: model.task.predict(model, batch, None))
    for step in range(data.batches_per_epoch):
        predicted = predict({key: tf.constant(value) for key, value in data.batch(step).items()})
        for row, example in enumerate(data.rows(step)):
            assert example >= 0 or predicted["length"][row] == 0
            found[example] = predicted["token_ids"][row, :predicted["length"][row]].numpy().tolist()
    # Of the long prompt, the opening stays.
    prompts = [[END, *ids(row["prompt"])[-57:]] for row in rows]
    prompts.append(Chat(BYTES).prompts([TALK[:2]])[0])
    answers = Generator(model.body, model.logits, Options(6, temperature=0, eos_token_id=(END,))).generate(prompts)
    expected = [row[:row.index(END)] if END in row else row for row in answers.token_ids.tolist()]
    assert [found[number] for number in range(5)] == expected[:5]
    loaded.change(max_target_length=6)
    texts = BYTES.decode(expected)
    assert loaded.predict([{"prompt": rows[4]["prompt"]}, rows[0]["prompt"]]) == [{"text": texts[4]},
                                                                                  {"text": texts[0]}]
    assert loaded.predict([{"messages": TALK[:2]}]) == [{"text": texts[5]}]
    metrics = Evaluator(model, model.task).evaluate(data)
    assert metrics.keys() >= {"loss", "perplexity", "accuracy", "exact_match", "rougeL"}


def test_a_changed_setting_counts_from_the_next_prediction():
    loaded = make(BYTES)
    whole = loaded.predict(["ab"])[0]["text"]
    loaded.change(max_target_length=1)
    assert len(whole) > 1 and loaded.predict(["ab"]) == [{"text": whole[0]}]


def test_nan_outputs_are_an_error_in_prediction():
    loaded = make(BYTES)
    loaded.model.body.norm.weights[0].assign(np.full(24, np.nan))
    with pytest.raises(DataError, match="outputs are NaN"):
        loaded.predict(["a"])
