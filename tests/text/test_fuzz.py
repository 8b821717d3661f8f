"""Vocabularies of strangers: damaged bytes anywhere give a tokenizer that works, or one line."""
import shutil

import numpy as np
import pytest

from tests.helpers import vocab_dir
from tfzoo.errors import ConfigError, DataError
from tfzoo.text import load_tokenizer

TEXTS = ["a fine film", "\u4e2d\u6587 \U0001f600", ""]
FILES = {"bert_uncased": ["vocab.txt"], "gpt2": ["vocab.json", "merges.txt"], "t5": ["tokenizer.json"],
         "sentencepiece": ["spiece.model"]}


def damaged(content, rng):
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, min(len(content), 4000) if rng.random() < 0.5 else len(content)))
        kind = rng.integers(4)
        if kind == 0:
            content[place] = rng.integers(256)
        elif kind == 1:
            del content[place:place + int(rng.integers(1, 9))]
        elif kind == 2:
            content[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            content[place:place] = content[place:place + int(rng.integers(1, 40))]
    return bytes(content)


def fuzz(kind, folder, count):
    source = vocab_dir() / ("t5" if kind == "sentencepiece" else kind)
    for name in FILES[kind]:
        shutil.copyfile(source / name, folder / name)
    rng, clean = np.random.default_rng(0), 0
    originals = {name: (folder / name).read_bytes() for name in FILES[kind]}
    for number in range(count):
        name = FILES[kind][number % len(FILES[kind])]
        (folder / name).write_bytes(damaged(originals[name], rng))
        try:
            tokenizer = load_tokenizer(folder)
            ids = tokenizer(TEXTS, max_length=32)["token_ids"].numpy()
            assert ids.min() >= 0 and ids.max() < tokenizer.vocab_size
            clean += 1
        except (DataError, FileNotFoundError, ConfigError) as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
        (folder / name).write_bytes(originals[name])
    return clean


@pytest.mark.parametrize("kind", FILES)
def test_damaged_vocabularies_work_or_are_refused(kind, tmp_path):
    fuzz(kind, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", FILES)
def test_many_damaged_vocabularies_work_or_are_refused(kind, tmp_path):
    fuzz(kind, tmp_path, 100)
