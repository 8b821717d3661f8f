"""Test generate --chat on scripted lines: what the model sees at each turn, what is printed, and when it ends."""
import io
import json
import sys

import numpy as np
import pytest

import tfzoo
from tests.experiments.conftest import call  # noqa: F401
from tests.tasks.test_tasks import SMALL
from tests.text.test_chat import GOLDEN, write
from tfzoo.checkpoints import Loaded
from tfzoo.text import load_tokenizer

TEMPLATE = GOLDEN["templates"]["generation"]


def saved(folder, tokenizer, length=200, task="completion"):
    model = tfzoo.build("gpt2_tiny", task=task, **{**SMALL, "vocab_size": tokenizer.vocab_size, "max_length": length})
    tfzoo.save(Loaded(model, tokenizer, {"model": "gpt2_tiny", "task": task, "labels": None,
                                         "settings": model.task.settings, "max_length": length}), folder)
    return folder


@pytest.fixture
def talk(call, monkeypatch):  # noqa: F811
    """Return a callable (folder, lines, answers, *words) -> (code, stdout, stderr, the decoded prompts)."""
    def run(folder, lines, answers, *words):
        prompts, tokenizer, left = [], tfzoo.load(folder).tokenizer, iter(answers)

        def stream(self, given, source):
            prompts.append(given[0])
            drawn = [token for token in tokenizer.encode([next(left)])[0].numpy()]
            return (np.array([token], np.int32) for token in [*drawn, self.options.eos_token_id[-1], 9])

        monkeypatch.setattr("tfzoo.generation.Generator.stream", stream)
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        code, out, err = call("generate", f"--init={folder}", "--chat", *words)
        return code, out, err, prompts

    return run


def test_each_answer_sees_the_conversation_so_far_and_the_end_of_input_ends_it(talk, tmp_path):
    folder = saved(tmp_path / "model", load_tokenizer("bytes"))
    code, out, err, prompts = talk(folder, "Hi\n\n  Why?  \nEnd", ["Hello caf\u00e9", "So.", ""], "--system=Be kind.",
                                   "--max_new_tokens=20")
    assert code == 0 and out == "Hello caf\u00e9\nSo.\n\n" and "no chat template" in err
    assert json.loads(err.splitlines()[-1])["answers"] == 3
    assert [text.count("\n") for text in tfzoo.load(folder).tokenizer.decode(prompts)] == [7, 11, 15]
    assert tfzoo.load(folder).tokenizer.decode(prompts[-1:]) == [
        "System:\nBe kind.\n\nUser:\nHi\n\nAssistant:\nHello caf\u00e9User:\n  Why?  \n\nAssistant:\nSo.User:\nEnd\n\n"
        "Assistant:\n"]


def test_a_history_that_is_too_long_is_cut_and_said_once(talk, tmp_path):
    folder = saved(tmp_path / "model", load_tokenizer("bytes"), length=60)
    code, out, err, prompts = talk(folder, "one\ntwo\nthree\nfour\n", list("abcd"), "--max_new_tokens=20")
    assert code == 0 and out == "a\nb\nc\nd\n" and err.count("no longer fits 40 tokens") == 1
    texts = tfzoo.load(folder).tokenizer.decode(prompts)
    assert texts[1:] == [f"User:\n{text}\n\nAssistant:\n" for text in ("two", "three", "four")]


def test_a_folder_s_own_template_gives_the_ids_and_the_end(talk, tmp_path):
    tokenizer = write(tmp_path / "tokenizer", "bytelevel", TEMPLATE["template"], None, "<|im_end|>")
    folder = saved(tmp_path / "model", tokenizer, task="causal_lm")  # as loaded from another library's chat folder
    messages = GOLDEN["conversations"][2]
    code, out, err, prompts = talk(folder, f"{messages[1]['content']}\n{messages[3]['content']}\n",
                                   [messages[2]["content"], "yes"], f"--system={messages[0]['content']}")
    assert code == 0 and "no chat template" not in err and out == f"{messages[2]['content']}\nyes\n"
    assert prompts[1] == TEMPLATE["rendered"][2]["bytelevel_True"]


def test_flags_that_do_not_fit_are_refused_in_one_line(call, talk, tmp_path):  # noqa: F811
    folder = saved(tmp_path / "model", load_tokenizer("bytes"))
    for words, says in ((["--chat", "--prompt=x"], "omit --prompt, --data and --output"),
                        (["--system=x"], "requires --chat"), (["--data=-", "--prompt=x"], "exclude each other"),
                        (["--log_probabilities"], "requires lines of JSON"), (["--top_p=2"], "--top_p must be above 0"),
                        (["--num_beams=2", "--top_k=5"], "has no effect with --temperature=0")):
        code, _, err = call("generate", f"--init={folder}", *words)
        assert code == 1 and says in err and len(err.strip().splitlines()) == 1
    tokenizer = write(tmp_path / "tokenizer", "bytelevel", GOLDEN["templates"]["gemma"]["template"], "<bos>", "<eos>")
    code, out, err, _ = talk(saved(tmp_path / "gemma", tokenizer), "Hi\n", ["x"], "--system=x")
    assert code == 65 and "System role not supported" in err and "Traceback" not in err and not out
