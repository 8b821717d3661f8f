"""Decoding of random ids and randomly cut texts, compared with transformers for all kinds of tokenizers that it reads.

    python -m tests.differential.decoding PYTHON [COUNT [SEED]]

PYTHON is an interpreter with transformers. Like `Tokenizer.decode`, it skips special tokens and does not clean up
spaces.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from tests.helpers import hostile_texts, real_lines, vocab_dir
from tests.text import kinds

# Kind -> its class in transformers; for BERT, the slow one, because the fast one's decoder always cleans up spaces.
CLASSES = {**{kind: "PreTrainedTokenizerFast" for kind in kinds.MAKERS if not kind.startswith("albert")},
           "bert_uncased": "BertTokenizer", "bert_cased": "BertTokenizer", "bert_chinese": "BertTokenizer",
           "gpt2": "GPT2TokenizerFast", "roberta": "RobertaTokenizerFast", "gpt": "OpenAIGPTTokenizerFast"}
PUBLISHED = ("bert_uncased", "bert_cased", "bert_chinese", "gpt2", "t5", "t5_json")
AS_JSON = {"llama2": "llama2_json"}  # the same vocabulary as a tokenizer.json
THEIRS = """
import json, sys
import transformers
found = []
for given in json.load(sys.stdin):
    kind = getattr(transformers, given["class"])
    tokenizer = kind(tokenizer_file=given["folder"] + "/tokenizer.json") if given["class"].startswith("PreTrained") \
        else kind.from_pretrained(given["folder"], **given["words"])
    found.append([tokenizer.decode([token for token in ids if token not in given["special"]], skip_special_tokens=True,
                                   clean_up_tokenization_spaces=False) for ids in given["rows"]])
print(json.dumps(found))
"""


def _rows_of(tokenizer, count, seed):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, tokenizer.vocab_size, rng.integers(0, 12)).tolist() for _ in range(count)]
    texts = real_lines() + [text.decode("utf-8", "replace") for text in hostile_texts(200)]
    for ids in tokenizer.encode([texts[number] for number in rng.integers(0, len(texts), count)]).to_list():
        begin, end = sorted(rng.integers(0, len(ids) + 1, 2))
        rows.append(ids[begin:end])
    return rows


def _question_of(kind, folder, count, seed):
    # Return (our tokenizer, the request to transformers).
    folder.mkdir()
    tokenizer, _ = kinds.MAKERS[kind](folder)
    if kind in AS_JSON:
        kinds.MAKERS[AS_JSON[kind]](folder)
    folder = vocab_dir() / kind.removesuffix("_json") if kind in PUBLISHED else folder
    words = {"do_lower_case": tokenizer.lowercase} if CLASSES[kind] == "BertTokenizer" else {}
    return tokenizer, {"class": CLASSES[kind], "folder": str(folder), "words": words,
                       "special": tokenizer.special_ids, "rows": _rows_of(tokenizer, count, seed)}


def check(reference_python, count=300, seed=0):
    """Compare decoded texts of tfzoo and transformers.

    Args:
        reference_python: str, an interpreter with transformers.
        count: int, the number of rows of random ids and the number of cut texts per kind.
        seed: int.

    Returns:
        List of str, one for each row that the two decode differently.

    Raises:
        RuntimeError: if transformers fails; the message is the last line of its output.
    """
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        asked = {kind: _question_of(kind, pathlib.Path(folder) / kind, count, seed) for kind in CLASSES}
        done = subprocess.run([reference_python, "-c", THEIRS], capture_output=True, text=True,
                              input=json.dumps([question for _, question in asked.values()]))
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    for (kind, (tokenizer, question)), theirs in zip(asked.items(), json.loads(done.stdout.splitlines()[-1])):
        findings += [f"{kind}: {ids} is {one!r}, in transformers {two!r}" for ids, one, two in zip(
            question["rows"], tokenizer.decode(question["rows"]), theirs, strict=True)
            if one != two and not (tokenizer.kind == "sentencepiece" and _as_sentencepiece(tokenizer.style, one, two))]
    return findings


def _as_sentencepiece(style, ours, theirs):
    # Our reference is SentencePiece, which differs from transformers' tokenizer.json: it replaces each invalid byte on
    # its own instead of a run of them at once, and T5's model removes all spaces at the beginning, not only the first.
    return "\ufffd" in ours and "\ufffd" in theirs or style == "T5Tokenizer" and ours == theirs.lstrip(" ")


if __name__ == "__main__":
    found = check(sys.argv[1], *map(int, sys.argv[2:]))
    print("\n".join([*found, f"{len(found)} differences"]))
