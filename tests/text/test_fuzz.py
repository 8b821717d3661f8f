"""Vocabularies of strangers: damaged bytes anywhere give a tokenizer that works, or one line."""
import shutil

import numpy as np
import pytest

from tests.helpers import damaged, vocab_dir
from tfzoo.errors import ConfigError, DataError
from tfzoo.text import load_tokenizer

TEXTS = ["a fine film", "\u4e2d\u6587 \U0001f600", ""]
FILES = {"bert_uncased": ["vocab.txt"], "gpt2": ["vocab.json", "merges.txt"], "t5": ["tokenizer.json"],
         "sentencepiece": ["spiece.model"]}


def fuzz(kind, folder, count):
    source = vocab_dir() / ("t5" if kind == "sentencepiece" else kind)
    for name in FILES[kind]:
        shutil.copyfile(source / name, folder / name)
    rng, clean = np.random.default_rng(0), 0
    originals = {name: (folder / name).read_bytes() for name in FILES[kind]}
    for number in range(count):
        name = FILES[kind][number % len(FILES[kind])]
        (folder / name).write_bytes(damaged(originals[name], rng, 4000 if rng.random() < 0.5 else None))
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
