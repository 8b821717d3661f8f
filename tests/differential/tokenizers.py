"""Token ids of tfzoo and transformers, compared for real vocabularies with random settings and added tokens."""
import json
import pathlib
import random
import shutil
import subprocess
import tempfile

from tests.helpers import checkpoint_dir, vocab_dir
from tfzoo.errors import DataError
from tfzoo.text import load_tokenizer

REFERENCE = """
import json, sys
from transformers import AutoTokenizer
folders, texts, pair = json.load(sys.stdin)
for folder in folders:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        found = {"ids": tokenizer(texts, add_special_tokens=False)["input_ids"],
                 "one": tokenizer(pair[0])["input_ids"], "two": tokenizer(*pair)["input_ids"]}
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:200]}
    print("RESULT " + json.dumps(found), flush=True)
"""
ADDED = ("[E1]", "[/E1]", "<ent>", "<|im_start|>", "new", "NewTok", "\u4e2d\u6587", "\u00c9t\u00e9", "##x", " lead",
         "two words", "e\u0301t", "\u0120x", "don't")
NAMES = ("<s>", "</s>", "<pad>", "<mask>", "<unk>", "[BOS]", "[EOS]")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
PAIR = ("A new film", "and [E1]its[/E1] maker")
TEXTS = [
    "", " ", "a", "x[E1]y", " [E1] a [/E1]  b", "The <ent>film<ent>, <ent> .", "new newish anew new. NEW New",
    "NewTok newtok NewToken", "\u4e2d\u6587\u5b57 a\u4e2d\u6587b", "\u00c9t\u00e9 \u00e9t\u00e9 ete e\u0301te",
    "##x ##xy a##x", "a lead leader  lead", "two words twowords two  words", "\u0120x", "don't DON'T don'ts",
    "<|im_start|>user\nhi", "caf\u00e9 \u00dcn\u00efc\u00f6d\u00e9 \u0130stanbul", "\u65e5\u672c\u8a9e\u6587",
    "  lead\ttab\nline ", "1984 12,5% (a-b)!", "[unused0] [unused1]", "\U0001f600 ok \u200b x", "a" * 101, "# ## #a a#",
    "The quick brown fox jumps over the lazy dog."]


def _write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def _additions(draw, ids):
    # {token: id}, mostly new tokens whose ids continue those of the vocabulary.
    tokens = [token for token in draw.sample(ADDED, draw.randint(1, 5)) if token not in ids or draw.random() < 0.1]
    return {token: len(ids) + number + (draw.random() < 0.03) for number, token in enumerate(tokens)}


def _token(draw, token, special=None):
    found = {"content": token, **{flag: draw.random() < 0.3 for flag in FLAGS}}
    return {**found, "special": draw.random() < 0.4 if special is None else special}


def _add(folder, draw, config, ids):
    # Add tokens in one of the ways that transformers supports.
    way = draw.choice(["none", "added_tokens.json", "decoder", "map", "both"])
    roles = draw.choice(["mask", "pad", "cls", "sep", "eos", "bos", "unk"])
    if way == "decoder":
        config["added_tokens_decoder"] = {str(number): _token(draw, token)
                                          for token, number in _additions(draw, ids).items()}
        if draw.random() < 0.5:
            config["additional_special_tokens"] = [draw.choice(ADDED)]
    if way in ("added_tokens.json", "both"):
        _write(folder / "added_tokens.json", _additions(draw, ids))
    if way in ("map", "both"):
        tokens = [draw.choice([token, _token(draw, token, True)]) for token in draw.sample(ADDED, 2)]
        found = {"additional_special_tokens": tokens}
        if draw.random() < 0.5:
            name = draw.choice(NAMES)
            found[f"{roles}_token"] = draw.choice([name, _token(draw, name, True)])
        _write(folder / "special_tokens_map.json", found)
    return way


def _words(folder, draw):
    # BERT's vocab.txt with a small change.
    name = draw.choice(["bert_cased", "bert_uncased", "bert_chinese"])
    lines = (vocab_dir() / name / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    change = draw.choice(["none"] * 6 + ["twice", "blank", "crlf", "bom", "no end", "no mask", "unused"])
    config = {"tokenizer_class": draw.choice(["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer"]),
              "do_lower_case": draw.random() < 0.5}
    if change == "twice":
        lines.append(lines[2000])
    elif change == "blank":
        lines += [""] * draw.randint(1, 2)
    elif change == "no mask":
        lines[lines.index("[MASK]")] = "[unused9999]"
    elif change == "unused":
        config["additional_special_tokens"] = [line for line in lines if line.startswith("[unused")][:2]
    for key, values in (("strip_accents", [True, False, None]), ("tokenize_chinese_chars", [True, False]),
                        ("do_basic_tokenize", [True, False]), ("never_split", [["new"], None]),
                        ("model_max_length", [512, 10 ** 30])):
        if draw.random() < 0.2:
            config[key] = draw.choice(values)
    text = ("\r\n" if change == "crlf" else "\n").join(lines) + ("" if change == "no end" else "\n")
    (folder / "vocab.txt").write_bytes(("\ufeff" * (change == "bom") + text).encode())
    return "bert", config, lines, f"{name}, {change}"


def _pairs(folder, draw):
    # GPT-2's vocab.json and merges.txt with a small change, or RoBERTa's with the same tokens.
    ids = json.loads((vocab_dir() / "gpt2" / "vocab.json").read_text(encoding="utf-8"))
    merges = (vocab_dir() / "gpt2" / "merges.txt").read_text(encoding="utf-8")
    config, kind = {}, draw.choice(["gpt2", "gpt2", "roberta"])
    change = draw.choice(["none"] * 5 + ["no byte", "no version", "no end", "crlf", "gap", "other class"])
    if kind == "roberta":
        ids = {token: number for number, token in enumerate([*ids][:-1] + [
            "<s>", "<pad>", "</s>", "<unk>", "<mask>"])}
    if change == "no byte":
        last = max(ids, key=ids.get)
        ids[last] = ids.pop(draw.choice(["!", "\u0100", "~"]))
    elif change == "no version":
        merges = merges.split("\n", 1)[1]
    elif change == "no end":
        merges = merges.rstrip("\n")
    elif change == "crlf":
        merges = merges.replace("\n", "\r\n")
    elif change == "gap":
        ids[max(ids, key=ids.get)] += 3
    config["tokenizer_class"] = {"gpt2": "GPT2Tokenizer", "roberta": "RobertaTokenizer"}[kind]
    if change == "other class":
        config["tokenizer_class"] = draw.choice(["GPT2Tokenizer", "Qwen2Tokenizer", "RobertaTokenizerFast"])
    for key in ("add_prefix_space", "add_bos_token"):
        if draw.random() < 0.25:
            config[key] = draw.random() < 0.6
    _write(folder / "vocab.json", ids)
    (folder / "merges.txt").write_bytes(merges.encode())
    return kind, config, ids, f"{kind}, {change}"


def _whole(folder, draw):
    # The tokenizer.json of T5 (with or without its SentencePiece model), MiniLM or GPT-2.
    kind = draw.choice(["t5", "minilm", "gpt2"])
    config = {"tokenizer_class": draw.choice(["PreTrainedTokenizerFast", None]), "model_max_length": 512}
    if kind == "t5":
        shutil.copy(vocab_dir() / "t5" / "tokenizer.json", folder)
        if draw.random() < 0.5:
            shutil.copy(vocab_dir() / "t5" / "spiece.model", folder)
        config.update({"tokenizer_class": "T5Tokenizer", "extra_ids": 100})
        return "t5", config, range(32100), kind
    if kind == "minilm":
        shutil.copy(checkpoint_dir() / "all-MiniLM-L6-v2" / "tokenizer.json", folder)
        config["tokenizer_class"] = draw.choice(["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None])
        for key, values in (("do_lower_case", [True, False]), ("strip_accents", [True, False, None]),
                            ("tokenize_chinese_chars", [True, False])):
            if draw.random() < 0.4:
                config[key] = draw.choice(values)
        return "bert", config, range(30522), kind
    from tokenizers import ByteLevelBPETokenizer
    source = vocab_dir() / "gpt2"
    backend = ByteLevelBPETokenizer.from_file(str(source / "vocab.json"), str(source / "merges.txt"),
                                              add_prefix_space=draw.random() < 0.3)
    backend.save(str(folder / "tokenizer.json"))
    for key in ("add_prefix_space", "add_bos_token", "split_special_tokens"):
        if draw.random() < 0.3:
            config[key] = draw.random() < 0.6
    return "gpt2", {**config, "eos_token": "<|endoftext|>"}, range(50257), kind


def make(folder, seed):
    """Fill a folder with a random tokenizer, determined by a seed, and return its description: str."""
    draw = random.Random(seed)
    kind, config, ids, done = draw.choice([_words, _pairs, _whole])(folder, draw)
    done += f", {_add(folder, draw, config, ids)}"
    model = {"model_type": kind}
    if config.get("tokenizer_class") and draw.random() < 0.2:
        model["tokenizer_class"] = config.pop("tokenizer_class")
    _write(folder / "config.json", model)
    _write(folder / "tokenizer_config.json", {key: value for key, value in config.items()
                                              if value is not None or key == "strip_accents"})
    return done


def reference(python, folders, texts, pair):
    """Return AutoTokenizer's output for each folder: list of dict with `ids`, `one` and `two`, or `error`."""
    done = subprocess.run([python, "-c", REFERENCE], input=json.dumps([list(map(str, folders)), texts, pair]),
                          capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1", "PATH": ""})
    found = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if len(found) != len(folders):
        raise RuntimeError(f"{python} ended after {len(found)} of {len(folders)} folders: {done.stderr[-500:]}")
    return found


def _differences(folder, expected):
    # Return the differences, list of str, or None if tfzoo rejects the folder or transformers cannot read it.
    try:
        tokenizer = load_tokenizer(folder, bare=True)
    except (DataError, FileNotFoundError):
        return None
    if "error" in expected:
        return None
    found = [f"{text!r} is {got}, in transformers {wanted}" for text, got, wanted in zip(
        TEXTS, tokenizer.encode(TEXTS).to_list(), expected["ids"], strict=True) if got != wanted]
    for name, parts in (("one", PAIR[:1]), ("two", PAIR)):
        got = tokenizer(*([part] for part in parts))["token_ids"].numpy().tolist()[0]
        if got != expected[name]:
            found.append(f"with special tokens, {name}: {got}, in transformers {expected[name]}")
    return found


def check(reference_python, count, seed):
    """Compare the ids of random folders with those of transformers' AutoTokenizer.

    Args:
        reference_python: str or path, an interpreter with transformers 4.57.
        count: int, the number of folders.
        seed: int.

    Returns:
        List of str, one for each folder with different ids or an error. Folders that tfzoo rejects are skipped.
    """
    findings, compared = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        folders, done = [pathlib.Path(temporary) / str(number) for number in range(count)], []
        for number, folder in enumerate(folders):
            folder.mkdir()
            done.append(make(folder, f"{seed}/{number}"))
        for number, (folder, expected) in enumerate(zip(folders, reference(reference_python, folders, TEXTS, PAIR))):
            try:
                found = _differences(folder, expected)
            except Exception as error:  # any error except a rejection is a finding
                found = [f"{type(error).__name__}: {error}"]
            compared += found is not None
            if found:
                findings.append(f"tokenizer {seed}/{number} ({done[number]}): {len(found)} differ, {found[0][:300]}")
    return findings if compared >= count / 2 else [*findings, f"only {compared} of {count} tokenizers were compared"]
