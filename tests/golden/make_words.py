"""Write the token ids and word ids that transformers' fast tokenizers return for sentences given as lists of words.

Run in an environment with transformers 4.57.1: python tests/golden/make_words.py --vocab=FOLDER, where FOLDER contains
bert_uncased, bert_cased, bert_chinese, gpt2 and t5 as published.
"""
import argparse
import json
import pathlib

import tokenizers
import transformers

FILE = pathlib.Path(__file__).parent / "words.json"
SENTENCES = [
    ["The", "2-foot", "gauge", "Forney", "design", "#", "1", "ran", "boiler-first", "on", "Sandy", "River", "."],
    ["#", "#hashtag", "@user", "http://t.co/x?y=1", "lol", ":-)", "don't", "U.S.", "``", "''", "1,000.50"],
    ["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "ok\U0001f44d",
     "\U0001f1eb\U0001f1f7"],
    ["cafe\u0301", "caf\u00e9", "A\u030angstro\u0308m", "\u0301", "\u00c0\u00c9\u00ce", "na\u00efve", "\u0130stanbul"],
    ["\u4e2d\u6587", "\u4e2d", "text\u4e2d", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4", "\u3000", "\uff21\uff11"],
    ["\x00", "a\x00b", "\x07", "\x7f", "\x85", "\u00ad", "co\u00adop", "\u200b", "\u200bx", "\ufeff", "\u2028",
     "\ufffd"],
    ["", " ", "\t", "\u00a0", "New York", " x", "x ", "\u00a0x", "a\nb", "\t\n"],
    ["x" * 500, "\u0436" * 101, "a" * 100, "b" * 101, "\u4e2d" * 120, "ab-" * 90],
    ["[CLS]", "[SEP]", "[MASK]", "<|endoftext|>", "</s>", "<pad>", "<extra_id_0>", "<s>"],
    ["\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05c1", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27",
     "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3", "\ufb01", "\u00bd", "\u2026", "\u202ex", "\U00020000"],
    [], ["\x00"]]


def tokenizers_of(vocab):
    """Return transformers' tokenizers by name, set to treat words that look like special tokens as text."""
    berts = {name: transformers.BertTokenizerFast(vocab_file=str(vocab / name / "vocab.txt"), split_special_tokens=True,
                                                  do_lower_case=name == "bert_uncased")
             for name in ("bert_uncased", "bert_cased", "bert_chinese")}
    files = {"vocab_file": str(vocab / "gpt2" / "vocab.json"), "merges_file": str(vocab / "gpt2" / "merges.txt")}
    return {**berts,
            "gpt2": transformers.GPT2TokenizerFast(**files, add_prefix_space=True, split_special_tokens=True),
            "t5": transformers.T5TokenizerFast(tokenizer_file=str(vocab / "t5" / "tokenizer.json"),
                                               split_special_tokens=True)}


def encoded(tokenizer, sentences):
    """Return the token ids and word ids of the sentences: two lists of lists."""
    found = tokenizer(sentences, is_split_into_words=True, add_special_tokens=False)
    return found["input_ids"], [found.word_ids(row) for row in range(len(sentences))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=pathlib.Path, required=True)
    golden = {"versions": {module.__name__: module.__version__ for module in (transformers, tokenizers)},
              "sentences": SENTENCES}
    for name, tokenizer in tokenizers_of(parser.parse_args().vocab).items():
        golden[name] = dict(zip(("token_ids", "word_ids"), encoded(tokenizer, SENTENCES)))
    FILE.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
