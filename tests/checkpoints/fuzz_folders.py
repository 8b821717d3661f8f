"""Small folders of every kind for tests.checkpoints.fuzz, and functions that change their bytes and values."""
import io
import json
import struct
import zipfile

import keras
from safetensors.numpy import load_file, save_file

import tfzoo
from tests.helpers import damaged
from tfzoo.checkpoints import Loaded
from tfzoo.text import learn_tokenizer

LINES = [f"a fine film number {number}, don't miss it; w\u00fcrdig \u4e2d\u6587 {number * 7919 % 1000}"
         for number in range(150)] + ["The quick brown fox jumps over the lazy dog", "unaffable, unbelievable"] * 20
SMALL = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "ffn_dim": 12, "vocab_size": 700}
FAMILIES = {"bert": ("bert_tiny", "classification", {"max_length": 16}),
            "llama": ("llama_tiny", "causal_lm", {"max_length": 16, "num_kv_heads": 1, "tied": False}),
            "t5": ("t5_tiny", "seq2seq", {"head_dim": 4})}
VALUES = [None, True, False, 0, 1, 2, 3, 4, -1, 0.5, 2 ** 31, 2 ** 63, 10 ** 12, 1e308, "", "a", "a\nb", "x" * 900, [],
          {}, [1], {"a": 1}, [[[[[[1]]]]]], "gelu", "relu", "float16", "BPE", "[UNK]", "</s>"]


def write_folders(folder):
    """Write the folders FAMILY/whole, FAMILY/shards and FAMILY/own, and one folder for each kind of tokenizer."""
    keras.utils.set_random_seed(0)
    for family, (name, task, own) in FAMILIES.items():
        labels = ["bad", "good", "so so"] if task == "classification" else None
        model = tfzoo.build(name, task=task, labels=labels, **SMALL, **own)
        loaded = Loaded(model, None, {"model": name, "task": task, "labels": labels, "settings": {}, "max_length": 16})
        tfzoo.save(loaded, folder / family / "own")
        tfzoo.save(loaded, folder / family / "whole", format="huggingface")
        _shard(folder / family / "whole", folder / family / "shards")
        _write_tokenizers(folder, family, loaded)


def _shard(source, folder):
    tensors = load_file(source / "model.safetensors")
    folder.mkdir()
    names, where = sorted(tensors), {}
    for file, part in (("one.safetensors", names[::2]), ("two.safetensors", names[1::2])):
        save_file({name: tensors[name] for name in part}, folder / file)
        where.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())


def _write_tokenizers(folder, family, loaded):
    # Each folder contains the model and a tokenizer, and is named after the file to damage.
    kinds = {"bert": {"vocab.txt": wordpiece, "tokenizer.json": wordpiece_package, "tokenizer_config.json": wordpiece},
             "llama": {"vocab.json": byte_pairs, "tokenizer.json": byte_pairs_package,
                       "tokenizer_config.json": llama_package},
             "t5": {"spiece.model": sentencepiece, "tokenizer.json": unigram_package,
                    "tokenizer_config.json": sentencepiece}}
    for name, write in kinds[family].items():
        tfzoo.save(loaded, folder / family / name, format="huggingface")
        write(folder / family / name)


def wordpiece(folder):
    learn_tokenizer("learn:wordpiece:200", LINES).save(folder)


def byte_pairs(folder):
    learn_tokenizer("learn:bpe:400", LINES).save(folder)


def wordpiece_package(folder):
    from tokenizers import BertWordPieceTokenizer
    learner = BertWordPieceTokenizer()
    learner.train_from_iterator(LINES, vocab_size=200, show_progress=False)
    learner.save(str(folder / "tokenizer.json"))


def byte_pairs_package(folder):
    from tokenizers import ByteLevelBPETokenizer
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(LINES, vocab_size=400, show_progress=False, special_tokens=["<|endoftext|>"])
    learner.save(str(folder / "tokenizer.json"))


def llama_package(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(LINES, trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<begin>", "<end>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    backend.post_processor = processors.TemplateProcessing("<begin> $A", special_tokens=[("<begin>", 0)])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<begin>", "eos_token": {"content": "<end>"}}))


def unigram_package(folder):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.train_from_iterator(LINES, trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    backend.save(str(folder / "tokenizer.json"))


def sentencepiece(folder):
    from sentencepiece import SentencePieceTrainer
    model = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, vocab_size=120, pad_id=0, eos_id=1,
                               unk_id=2, bos_id=-1, minloglevel=2, num_threads=1)
    (folder / "spiece.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 100}')


def change(name, content, rng):
    """Return the content of a file with some bytes or one JSON value changed."""
    whole = rng.random() < 0.5
    if name.endswith(".safetensors"):  # only the header is damaged, since any number after it is valid
        length = struct.unpack("<Q", content[:8])[0]
        if whole:
            return damaged(content, rng, 8 + length)
        header = change_json(content[8:8 + length], rng)
        return struct.pack("<Q", len(header)) + header + content[8 + length:]
    if name.endswith(".keras"):
        return damaged(content, rng) if whole else change_archive(content, rng)
    if name.endswith(".json") and not whole:
        return change_json(content, rng)
    return damaged(content, rng, 4000 if rng.random() < 0.3 else None)


def change_json(content, rng):
    """Return JSON with one value replaced, removed, moved to another key or copied to another key."""
    found = part = json.loads(content)
    for _ in range(int(rng.integers(1, 6))):
        key = _key_of(part, rng)
        if not isinstance(part[key], (dict, list)) or not part[key]:
            break
        above, part = (part, key), part[key]
    else:
        part, key = above
    value = VALUES[rng.integers(len(VALUES))]
    kind = rng.integers(4)
    if kind == 0:
        del part[key]
    elif kind == 1 and isinstance(part, dict):
        part[f"{key}_"] = part.pop(key)
    elif kind == 2:
        part[key] = part[_key_of(part, rng)]
    else:
        part[key] = value
    return json.dumps(found).encode()


def _key_of(part, rng):
    return list(part)[rng.integers(len(part))] if isinstance(part, dict) else int(rng.integers(len(part)))


def change_archive(content, rng):
    """Return an archive with one member changed and its checksum updated."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = ["config.json", "model.weights.h5"][rng.integers(2)]
    parts[name] = change_json(parts[name], rng) if name == "config.json" else damaged(parts[name], rng)
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return found.getvalue()
