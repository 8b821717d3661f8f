"""Check the content of damaged folders that load, with independent readers: json, h5py, tokenizers, sentencepiece."""
import io
import json
import zipfile

import h5py
import numpy as np

from tfzoo.checkpoints.huggingface import family_of_type
from tfzoo.text.wordpiece import SPECIALS

TEXTS = ["a fine film", "don't miss it; w\u00fcrdig \u4e2d\u6587 \U0001f600", "", "The quick brown fox", "x" * 130]


def weights_of(loaded):
    """Return the weights of a model: dict of path -> array."""
    return {weight.path: np.asarray(weight) for weight in loaded.model.weights}


def same_weights(loaded, whole, but=()):
    """Assert that all weights equal those of the undamaged folder; paths that start with `but` may be missing."""
    now, before = weights_of(loaded), weights_of(whole)
    assert {path for path in before if not path.startswith(tuple(but))} <= now.keys() <= before.keys()
    assert all(np.array_equal(value, before[path]) for path, value in now.items())


def same_ids(loaded, whole):
    """Assert that the tokenizer, if any, returns the same ids as the tokenizer of the undamaged folder."""
    if loaded.tokenizer is not None:
        assert loaded.tokenizer.encode(TEXTS).to_list() == whole.tokenizer.encode(TEXTS).to_list()


def warm(whole):
    """Run the operations of the checks once, so that the memory that TensorFlow allocates for them is not counted."""
    same_weights(whole, whole)
    if whole.tokenizer is not None:
        same_ids(whole, whole)
        whole.tokenizer(TEXTS, max_length=16)


def check_same(folder, loaded, whole):
    """Assert that nothing has changed."""
    same_weights(loaded, whole)
    assert loaded.config == whole.config and loaded.body.config == whole.body.config and not loaded.dropped


def check_config(folder, loaded, whole):
    """Assert that the weights are unchanged, and that the model's arguments match config.json."""
    said = json.loads((folder / "config.json").read_bytes())
    reference = family_of_type(said["model_type"]).reference
    body = not said.get("architectures")
    same_weights(loaded, whole, ("head/", "pooler/") if body else ())
    assert loaded.config["task"] == (None if body else whole.config["task"])
    for ours, theirs in {**reference.arguments, "dropout": reference.dropouts[0]}.items():
        got, want = loaded.body.config[ours], said.get(theirs, reference.defaults.get(theirs))
        if ours == "activation":
            want = reference.activations[want]
        elif ours in ("head_dim", "num_kv_heads", "embedding_dim", "window", "ffn_dim") and got in (0, 4 * 8):
            continue  # 0 or derived from another argument; the shapes confirm it
        assert got == want and (isinstance(got, bool) == isinstance(want, bool)), (ours, got, want)
    if loaded.config["labels"] is not None:
        names = said.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        assert all(type(name) in (str, int, float) for name in names.values())
        assert loaded.config["labels"] == [str(names[key]) for key in sorted(names, key=int)]


def check_own(folder, loaded, whole):
    """Assert that the weights are unchanged, and that the settings match config.json."""
    said = json.loads((folder / "config.json").read_bytes())
    same_weights(loaded, whole)
    assert loaded.config == {key: said[key] for key in whole.config}
    assert loaded.body.config == whole.body.config
    assert loaded.task.head(loaded.body, None)


def check_archive(folder, loaded, whole):
    """Assert that the weights, and the arguments of the body and head, are those stored in the archive."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        said = json.loads(archive.read("config.json"))["config"]
        arrays, content = set(), io.BytesIO(archive.read("model.weights.h5"))
    now, before = weights_of(loaded), weights_of(whole)
    try:
        with h5py.File(content) as file:
            file.visititems(lambda name, one: arrays.add(one[()].tobytes()) if isinstance(one, h5py.Dataset) else None)
    except RuntimeError:  # names that belong to no weight are damaged
        arrays = {value.tobytes() for value in before.values()}
    assert now.keys() == before.keys() and all(value.shape == before[path].shape for path, value in now.items())
    assert all(value.tobytes() in arrays for value in now.values())
    body = said["body"]["config"]
    assert all(body.get(key, whole.body.config[key]) == value for key, value in loaded.body.config.items()
               if key in body)
    assert all(said["head"]["config"][key] == value for key, value in loaded.model.head.config.items()
               if key in said["head"]["config"])


def check_words(folder, loaded, whole):
    """Assert that the words are the lines of vocab.txt (the last of equal ones), and the ids those of `tokenizers`."""
    from tokenizers import BertWordPieceTokenizer
    same_weights(loaded, whole)
    text = (folder / "vocab.txt").read_bytes().decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    words = (text[:-1] if text.endswith("\n") else text).split("\n")
    ids = {word: number for number, word in enumerate(words)}
    if loaded.tokenizer.kind == "wordpiece":
        assert loaded.tokenizer.vocabulary == words and set(SPECIALS) <= set(words)
    else:
        assert set(SPECIALS) <= {*words, "[MASK]"} and (len(ids) < len(words) or "[MASK]" not in ids)
    package = BertWordPieceTokenizer(ids)
    assert loaded.tokenizer.encode(TEXTS).to_list() == [
        encoding.ids for encoding in package.encode_batch(TEXTS, add_special_tokens=False)]


def check_package(folder, loaded, whole):
    """Assert that the `tokenizers` package returns the same ids for the same files."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    same_weights(loaded, whole)
    if loaded.tokenizer is None:
        return
    if (folder / "tokenizer.json").is_file():
        package = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")[1:]
        package = Tokenizer(models.BPE(json.loads((folder / "vocab.json").read_bytes()),
                                       [tuple(line.split(" ")) for line in lines if line.strip()]))
        package.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    package.encode_special_tokens = True
    package.no_truncation()
    package.no_padding()
    assert loaded.tokenizer.encode(TEXTS).to_list() == [
        encoding.ids for encoding in package.encode_batch(TEXTS, add_special_tokens=False)]
    check_inputs(loaded)


def check_sentencepiece(folder, loaded, whole):
    """Assert that the sentencepiece package returns the same ids for the same file."""
    from sentencepiece import SentencePieceProcessor
    same_weights(loaded, whole)
    package = SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    assert loaded.tokenizer.encode(TEXTS).to_list() == package.encode(TEXTS)
    check_inputs(loaded)


def check_settings(folder, loaded, whole):
    """Assert that the ids are unchanged, unless tokenizer_config.json changes do_lower_case."""
    same_weights(loaded, whole)
    if loaded.tokenizer is None:
        return
    said = json.loads((folder / "tokenizer_config.json").read_bytes())
    if getattr(loaded.tokenizer, "lowercase", None) == getattr(whole.tokenizer, "lowercase", None):
        same_ids(loaded, whole)
    else:
        assert loaded.tokenizer.lowercase is bool(said["do_lower_case"])
    check_inputs(loaded)


def check_inputs(loaded):
    """Assert that the model's input ids are within its embedding table."""
    ids = loaded.tokenizer(TEXTS, max_length=16)["token_ids"].numpy()
    assert ids.min() >= 0 and ids.max() < loaded.tokenizer.vocab_size <= loaded.body.config["vocab_size"]
