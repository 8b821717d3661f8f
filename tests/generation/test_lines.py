"""Test `generate --data`, several answers, and `Loaded.generate`: lines of JSON, in order, each as the prompt alone."""
import json

import pytest

import tfzoo
from tests.experiments.conftest import call  # noqa: F401
from tests.export.test_writing import make
from tests.generation.test_generator import generator_of, model  # noqa: F401
from tfzoo.checkpoints.writing import Writer
from tfzoo.errors import ConfigError
from tfzoo.generation.decode import decode

PROMPTS = ["ab", "", "hello you", "x" * 100]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    for name, task in (("gpt2_tiny", "causal_lm"), ("gpt2_tiny", "completion"), ("transformer_tiny", "seq2seq")):
        tfzoo.save(make(name, task), path / task)
    return path


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_a_file_of_prompts_gives_a_line_for_each_answer_in_order(call, folder, tmp_path):  # noqa: F811
    (tmp_path / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    words = [f"--init={folder / 'causal_lm'}", f"--data={tmp_path / 'prompts.txt'}", "--max_new_tokens=6",
             "--num_beams=3", "--num_return_sequences=2", "--batch_size=3"]
    code, out, err = call("generate", *words)
    rows, loaded = lines(out), tfzoo.load(folder / "causal_lm")
    assert code == 0 and [row["prompt"] for row in rows] == [prompt for prompt in PROMPTS for _ in range(2)]
    assert "1 of 4 prompts or sources were cut" in err
    results = json.loads(err.splitlines()[-1])
    assert results["examples"] == 4 and results["answers"] == 8 and results["cut"] == 1
    for number, prompt in enumerate(PROMPTS):
        alone = loaded.generate([prompt], max_new_tokens=6, num_beams=3, num_return_sequences=2)
        assert [answer["text"] for answer in alone] == [row["text"] for row in rows[2 * number:2 * number + 2]]
        assert alone[0]["score"] >= alone[1]["score"] and alone[0]["tokens"] + alone[0]["finished"] <= 6
    code, out, _ = call("generate", *words, f"--output={tmp_path / 'out.jsonl'}")
    assert code == 0 and not out and lines((tmp_path / "out.jsonl").read_text()) == rows
    code, out, _ = call("generate", words[0], "--prompt=ab", *words[2:])
    assert code == 0 and [row["text"] for row in lines(out)] == [row["text"] for row in rows[:2]]


@pytest.mark.slow
def test_conversations_and_sources_are_read_as_well(call, folder, tmp_path):  # noqa: F811
    talk = [{"role": "user", "content": "Hi"}]
    (tmp_path / "talks.jsonl").write_text(json.dumps({"messages": talk}) + "\n" + json.dumps({"prompt": "So"}) + "\n")
    code, out, _ = call("generate", f"--init={folder / 'completion'}", f"--data={tmp_path / 'talks.jsonl'}",
                        "--max_new_tokens=5", "--log_probabilities")
    loaded, rows = tfzoo.load(folder / "completion"), lines(out)
    assert code == 0 and rows[0]["messages"] == talk
    assert [row["text"] for row in rows] == [loaded.generate([prompt], max_new_tokens=5)[0]["text"]
                                             for prompt in (talk, "So")]
    assert all(len(row["log_probabilities"]) == row["tokens"] + row["finished"] for row in rows)
    assert all(value <= 0 for row in rows for value in row["log_probabilities"])
    (tmp_path / "sources.txt").write_text("one\ntwo\n")
    words = [f"--init={folder / 'seq2seq'}", f"--data={tmp_path / 'sources.txt'}", "--max_new_tokens=7"]
    code, out, _ = call("generate", *words)
    predicted = tfzoo.load(folder / "seq2seq")
    predicted.change(max_target_length=7)
    assert code == 0 and [row["text"] for row in lines(out)] == [
        answer["text"] for answer in predicted.predict(["one", "two"])]
    code, out, _ = call("generate", f"--init={folder / 'seq2seq'}", "--prompt=one", "--max_new_tokens=7")
    assert code == 0 and out == lines(call("generate", *words)[1])[0]["text"] + "\n"


@pytest.mark.slow
def test_beams_of_a_trained_setting_are_those_of_prediction(folder):
    loaded = tfzoo.load(folder / "seq2seq")
    greedy = loaded.predict(["one", "two two"])
    loaded.change(num_beams=3, max_target_length=7)
    assert loaded.predict(["one", "two two"]) == [{"text": answer["text"]} for answer in loaded.generate(
        ["one", "two two"])]
    loaded.change(length_penalty=0.5)
    assert "score" not in loaded.generate(["one"], num_beams=1)[0]
    assert loaded.generate(["one"])[0].keys() == {"text", "tokens", "finished", "score"}
    assert loaded.predict(["one", "two two"]) != greedy


@pytest.mark.slow
def test_words_that_must_not_occur_and_strings_that_end_a_text(folder):
    loaded = tfzoo.load(folder / "causal_lm")
    free = loaded.generate(["ab"], max_new_tokens=12, temperature=0)[0]["text"]
    assert len(set(free)) > 1
    letter = next(character for character in free if character.isascii())
    assert letter not in loaded.generate(["ab"], max_new_tokens=12, temperature=0, bad_words=[letter])[0]["text"]
    stopped = loaded.generate(["ab"], max_new_tokens=12, temperature=0, stop=[letter])[0]
    assert stopped["text"] == free[:free.index(letter) + 1]
    assert loaded.generate(["ab"], choices=["yes", "no"])[0]["text"] in ("yes", "no")
    for options, says in (({"beam": 2}, "'beam' is unknown; choose from bad_words, draft, stop, regex"),
                          ({"stop": [""]}, "must not be empty"), ({"regex": ""}, "must not be empty"),
                          ({"stop": "END"}, "stop must be a list of strings"),
                          ({"num_beams": 2, "log_probabilities": True}, "--log_probabilities excludes beams"),
                          ({"forced_bos_token_id": "a"}, "--forced_bos_token_id must be a token id"),
                          ({"top_k": -1}, "--top_k must be 0")):
        with pytest.raises(ConfigError, match=says):
            loaded.generate(["ab"], **options)
    assert loaded.generate(["ab"], temperature=0, max_new_tokens=12, stop=[], choices=())[0]["text"] == free
    with pytest.raises(ConfigError, match="a prompt must be a string or a list of messages"):
        loaded.generate([5])
    with pytest.raises(ConfigError, match="model for no task cannot generate text"):
        bare = tfzoo.load(folder / "causal_lm")
        bare.config = {**bare.config, "task": None}
        bare.generate(["ab"])


def test_a_prompt_s_place_in_the_file_and_not_its_batch_determines_its_samples(call, folder, tmp_path):  # noqa: F811
    (tmp_path / "prompts.txt").write_text("ab\n" * 5)
    texts = []
    for size in (2, 5):
        code, out, _ = call("generate", f"--init={folder / 'causal_lm'}", f"--data={tmp_path / 'prompts.txt'}",
                            "--max_new_tokens=6", "--seed=3", f"--batch_size={size}")
        assert code == 0
        texts.append([row["text"] for row in lines(out)])
    assert texts[0] == texts[1] and len(set(texts[0])) > 2
    loaded = tfzoo.load(folder / "causal_lm")
    assert [row["text"] for row in loaded.generate(["ab"] * 5, max_new_tokens=6, seed=3)] == texts[0]
    many = loaded.generate(["ab"] * 40, max_new_tokens=6, seed=3)  # more than are decoded together
    assert [row["text"] for row in many[:5]] == texts[0] and len({row["text"] for row in many}) > 20
    assert [row["text"] for row in many[35:]] == [
        row["text"] for row in loaded.generate(["ab"] * 5, max_new_tokens=6, seed=38)]


def test_the_options_of_a_hugging_face_folder_are_the_defaults(folder, tmp_path):
    tfzoo.save(tfzoo.load(folder / "causal_lm"), tmp_path / "theirs", format="huggingface")
    said = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": None, "suppress_tokens": [7, 8],
            "eos_token_id": 2, "bad_words_ids": [[9, 10]], "length_penalty": 2.0, "max_new_tokens": 5}
    (tmp_path / "theirs" / "generation_config.json").write_text(json.dumps(said))
    tfzoo.save(tfzoo.load(tmp_path / "theirs"), tmp_path / "ours")
    tfzoo.save(tfzoo.load(tmp_path / "ours"), tmp_path / "written", format="huggingface")
    written = json.loads((tmp_path / "written" / "generation_config.json").read_text())
    assert {name: written[name] for name in said if name in written} == {
        name: value for name, value in said.items() if value is not None}
    for source in ("theirs", "ours", "written"):
        loaded = tfzoo.load(tmp_path / source)
        options = Writer(loaded).options
        assert (options.temperature, options.top_p, options.max_new_tokens, options.suppress_tokens,
                options.bad_words_ids, options.length_penalty) == (0.6, 0.9, 5, (7, 8), ((9, 10),), 1.0)
        greedy = Writer(loaded, temperature=0, num_beams=2).options
        assert greedy.top_p == 1.0 and greedy.length_penalty == 2.0 and greedy.suppress_tokens == (7, 8)


def test_few_functions_are_traced_for_batches_and_prompts_of_all_sizes(model, monkeypatch):  # noqa: F811
    traced = []
    monkeypatch.setattr("tfzoo.generation.generator.decode", lambda *inputs, **options: (
        traced.append(inputs), decode(*inputs, **options))[1])
    generator = generator_of(model, 3)
    for rows in (1, 2, 5, 8, 64):
        for length in (1, 7, 17):
            generator.generate([[5] * length] * rows)
    assert len(traced) == 3  # one row; two rows; any number of rows
