"""Tokenizers from files and folders, and vocabularies learned from texts."""
import json
import pathlib

from tfzoo.errors import ConfigError, DataError
from tfzoo.text.byte import ByteTokenizer
from tfzoo.text.wordpiece import SPECIALS, WordPieceTokenizer


def load_tokenizer(source, lowercase="auto"):
    """Load a tokenizer.

    Args:
        source: "bytes", a vocab.txt (Google's, Hugging Face's), or a folder that holds one.
        lowercase: bool, or "auto": tokenizer_config.json, else whether the vocabulary holds no capitals.

    Returns:
        A Tokenizer.

    Raises:
        FileNotFoundError: where there is no vocabulary. DataError: for one that cannot be used.
    """
    if str(source) == "bytes":
        return ByteTokenizer()
    path = pathlib.Path(source)
    folder = path if path.is_dir() else path.parent
    config = {}
    if (folder / "tokenizer_config.json").is_file():
        try:
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{folder / 'tokenizer_config.json'}: not JSON ({error}); mend or remove it") from None
    if path.is_dir() and config.get("tokenizer_class") == "tfzoo.ByteTokenizer":
        return ByteTokenizer()
    file = path / "vocab.txt" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no vocabulary at {file}: allowed are bytes, a vocab.txt or a folder with one")
    text = file.read_text(encoding="utf-8")
    vocabulary = (text[:-1] if text.endswith("\n") else text).split("\n")
    if lowercase == "auto":
        capitals = any(token != token.lower() for token in vocabulary if not token.startswith("["))
        lowercase = bool(config.get("do_lower_case", not capitals))
    return WordPieceTokenizer(vocabulary, lowercase)


def learn_tokenizer(spec, texts, lowercase="auto"):
    """Learn a vocabulary from texts, the same for the same texts.

    Args:
        spec: "learn:wordpiece:SIZE" or "bytes".
        texts: iterable of str.
        lowercase: bool; "auto" is True.

    Returns:
        A Tokenizer.

    Raises:
        ConfigError: for another spec.
    """
    if spec == "bytes":
        return ByteTokenizer()
    words = spec.split(":")
    if len(words) != 3 or words[:2] != ["learn", "wordpiece"] or not words[2].isdigit() or int(words[2]) < 100:
        raise ConfigError(f"tokenizer is {spec!r}: allowed are bytes and learn:wordpiece:SIZE with SIZE 100 or more")
    from tokenizers import BertWordPieceTokenizer
    lowercase = lowercase is True or lowercase == "auto"
    learner = BertWordPieceTokenizer(lowercase=lowercase, strip_accents=lowercase)
    learner.train_from_iterator(texts, vocab_size=int(words[2]), min_frequency=2, limit_alphabet=1000,
                                show_progress=False, special_tokens=list(SPECIALS))
    ids = learner.get_vocab()
    return WordPieceTokenizer(sorted(ids, key=ids.get), lowercase)
