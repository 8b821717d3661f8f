"""Test what generate prints for every kind of tokenizer: the prompt, its continuation and the whitespace between."""
import io
import sys
import types

import numpy as np
import pytest

from experiments import app, generate
from tests.text import kinds
from tfzoo.generation import Generator
from tfzoo.models.body import Traits
from tfzoo.tasks import task_of
from tfzoo.text import load_tokenizer

MAKERS = {**kinds.MAKERS, "bytes": lambda folder: (load_tokenizer("bytes"), None)}
FAITHFUL = [name for name in MAKERS if not name.startswith(("bert", "gpt_", "t5", "albert")) and name != "gpt"]


class Pieces(io.StringIO):
    """Standard output that records each write."""

    def __init__(self):
        super().__init__()
        self.pieces = []

    def write(self, text):
        self.pieces.append(text)
        return super().write(text)


@pytest.fixture
def shown(monkeypatch):
    """Return a callable (tokenizer, prompt, ids drawn by the model) -> (ids of the prompt, pieces printed)."""
    def run(tokenizer, prompt, drawn):
        prompts, out = [], Pieces()

        def stream(self, given, source):
            prompts.extend(given)
            return (np.array([token], np.int32) for token in [*drawn, tokenizer.end_id, 5])

        body = types.SimpleNamespace(traits=Traits(causal=True, cached=True))
        loaded = types.SimpleNamespace(model=types.SimpleNamespace(logits=None), body=body, tokenizer=tokenizer,
                                       config={"max_length": 512}, task=task_of("causal_lm"),
                                       check_tokenizer=lambda: tokenizer, end_ids=(tokenizer.end_id,), new_tokens=None,
                                       prompt_room=lambda options: None, generator=Generator)
        monkeypatch.setattr("tfzoo.checkpoints.load", lambda *_: loaded)
        monkeypatch.setattr("tfzoo.generation.Generator.__init__", lambda *_: None)
        monkeypatch.setattr("tfzoo.generation.Generator.stream", stream)
        monkeypatch.setattr(sys, "stdout", out)
        assert app.execute(generate.make_flags(), generate.run, ["--init=x", f"--prompt={prompt}"],
                           sys.stderr) == 0
        return prompts[0], out.pieces

    return run


@pytest.fixture(params=MAKERS, scope="module")
def kind(request, tmp_path_factory):
    return request.param, MAKERS[request.param](tmp_path_factory.mktemp(request.param))[0]


def test_a_text_goes_on_after_its_prompt_as_it_was_written(kind, shown):
    name, tokenizer = kind
    texts = [("the", " film"), ("the film", " films"), ("film", "s und films"), ("the ", "film"),
             ("the film " * generate.TAIL + "the", " film")]
    if name in FAITHFUL:
        texts += [("the", "  two  films\n"),
                  ("\n", "\n a\n"), ("", "a\n"), ("\u4e2d", "\u6587 caf\u00e9 \U0001f600!\ufffd")]
    for prompt, rest in texts:
        drawn = tokenizer.encode([prompt + rest]).to_list()[0]
        before = tokenizer.encode([prompt]).to_list()[0]
        while drawn[:len(before)] != before:  # shorten the prompt until no merge crosses its end
            prompt, rest = prompt[:-1], prompt[-1] + rest
            before = tokenizer.encode([prompt]).to_list()[0]
        begun, pieces = shown(tokenizer, prompt, drawn[len(before):])
        assert begun == tokenizer.beginning(before)
        assert "".join(pieces) == f"{prompt}{rest}\n", (prompt, rest)
        assert all("\ufffd" not in piece for piece in pieces[:-1])  # no character is printed before it is complete
        assert len(pieces) > 2 or len(drawn) == len(before) + 1


def test_an_undecodable_prompt_is_written_to_a_file_as_to_stdout(kind, shown, tmp_path):
    tokenizer = kind[1]
    drawn, path = tokenizer.encode([" film"]).to_list()[0], tmp_path / "out.txt"
    # Python decodes the byte 0xff in an argument as this surrogate.
    printed = "".join(shown(tokenizer, "the\udcff", drawn)[1])
    assert app.execute(generate.make_flags(), generate.run, ["--init=x", "--prompt=the\udcff", f"--output={path}"],
                       sys.stderr) == 0
    assert path.read_text(encoding="utf-8") == printed and printed.startswith("the?")
