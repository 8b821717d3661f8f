"""Write added_tokens.json: transformers' ids for folders whose settings add tokens to a published vocabulary.

    python -m tests.golden.make_added_tokens --reference_python=PATH

PATH is a Python interpreter with transformers 4.57.1.
"""
import json
import pathlib
import shutil
import sys
import tempfile

from tests.helpers import checkpoint_dir, vocab_dir

GOLDEN = pathlib.Path(__file__).with_name("added_tokens.json")
TEXTS = ["x[E1]y [E1] caf\u00e9", "  NewTok newtok NewTokens <ent> .", "A \u4e2d\u6587 film[unused7]"]
BERT = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
ADDED = {"content": "NewTok", "lstrip": True, "rstrip": False, "single_word": True, "normalized": False,
         "special": False}
# name -> (model_type, folder of the vocabulary or its file, settings for each file)
CASES = {
    "added_tokens.json": ("bert", "bert_uncased", {
        "added_tokens.json": {"[E1]": 30522, "NewTok": 30523},
        "special_tokens_map.json": {"additional_special_tokens": ["[E1]"]}, "tokenizer_config.json": BERT}),
    "added_tokens_decoder": ("bert", "bert_cased", {"tokenizer_config.json": {
        **BERT, "do_lower_case": False, "added_tokens_decoder": {"28996": ADDED, "28997": {**ADDED, "content": "[E1]"}},
        "additional_special_tokens": ["[unused7]"]}}),
    "other names": ("bert", "bert_uncased", {"tokenizer_config.json": BERT, "special_tokens_map.json": {
        "cls_token": "[unused5]", "mask_token": "[unused6]", "sep_token": {
            "content": "[SEQ]", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}}}),
    "accents": ("bert", "bert_uncased", {"tokenizer_config.json": {
        **BERT, "strip_accents": False, "tokenize_chinese_chars": False}}),
    "gpt2": ("gpt2", "gpt2", {
        "tokenizer_config.json": {"add_prefix_space": True, "add_bos_token": True},
        "special_tokens_map.json": {"pad_token": "<pad>", "additional_special_tokens": ["<ent>"]},
        "added_tokens.json": {"<pad>": 50257, "<ent>": 50258, "[E1]": 50259}}),
    "flags": ("gpt2", "gpt2", {
        "special_tokens_map.json": {"additional_special_tokens": [{**ADDED, "content": "<ent>", "rstrip": True}]},
        "added_tokens.json": {"<ent>": 50257, "NewTok": 50258}}),
    "t5": ("t5", "t5", {"added_tokens.json": {"[E1]": 32100, "<ent>": 32101}, "tokenizer_config.json": {
        "tokenizer_class": "T5TokenizerFast", "extra_ids": 100}}),
    "a class over tokenizer.json": ("bert", "all-MiniLM-L6-v2/tokenizer.json", {"tokenizer_config.json": {
        "do_lower_case": False, "tokenize_chinese_chars": False, "additional_special_tokens": ["[E1]", "<ent>"]}}),
}


def make(name, folder):
    """Write the files of a case into a folder."""
    kind, source, files = CASES[name]
    source = checkpoint_dir() / source if "/" in source else vocab_dir() / source
    for path in [source] if source.is_file() else source.iterdir():
        shutil.copyfile(path, folder / path.name)
    for file, content in {**files, "config.json": {"model_type": kind}}.items():
        (folder / file).write_text(json.dumps(content))


if __name__ == "__main__":
    from tests.differential.tokenizers import reference
    with tempfile.TemporaryDirectory() as temporary:
        folders = [pathlib.Path(temporary) / str(number) for number in range(len(CASES))]
        for name, folder in zip(CASES, folders):
            folder.mkdir()
            make(name, folder)
        found = reference(sys.argv[1].removeprefix("--reference_python="), folders, TEXTS, TEXTS[:2])
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in zip(CASES, found))
    GOLDEN.write_text(f"{{{rows}}}\n")
