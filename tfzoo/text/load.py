"""Tokenizers from files and folders, and vocabularies learned from texts."""
import collections
import contextlib
import json

from tfzoo.errors import ConfigError, DataError, UnknownKind, reason_of, shown
from tfzoo.files import local_path, once
from tfzoo.progress import tell
from tfzoo.text.bpe import BytePairTokenizer, learn_merges, read_merges
from tfzoo.text.byte import ByteTokenizer
from tfzoo.text.package import LARGEST, PackageTokenizer, content_of_gpt
from tfzoo.text.sentencepiece import STYLES, SentencePieceTokenizer
from tfzoo.text.tokenizer import class_of
from tfzoo.text.wordpiece import LONGEST_WORD, SPECIALS, WordPieceTokenizer

WORDPIECES = {f"{name}Tokenizer{fast}" for name in ("Bert", "DistilBert", "Electra", "MobileBert")
              for fast in ("", "Fast")}
GPT2_SPECIALS = {"<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>"}
BERT_S = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": LONGEST_WORD}
BPE_SETTINGS = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                "ignore_merges")
RARE = "\u16a0\ua000 \u0e01\U0001f600"
SENTENCEPIECE = ("spiece.model", "tokenizer.model")
PAIRS = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}  # Hugging Face's names, OpenAI's names
FILES = ("vocab.txt", *PAIRS, *SENTENCEPIECE, "tokenizer.json")
SPECS = "bytes, learn:wordpiece:SIZE or learn:bpe:SIZE"


def _read_json(path):
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({reason_of(error, 100)}); get it again") from None
    return found


def load_tokenizer(source, lowercase="auto", bare=False):
    """Load a tokenizer.

    Args:
        source: "bytes"; a vocabulary file: vocab.txt (Google's, Hugging Face's), vocab.json with merges.txt beside it
            (byte-level, or GPT's of 2018), encoder.json with vocab.bpe (OpenAI's), spiece.model or tokenizer.model
            (SentencePiece, T5's, ALBERT's or Llama's), tokenizer.json (Hugging Face's); or a folder with one of them.
        lowercase: bool, or "auto": tokenizer_config.json, else whether the vocabulary holds no capitals.
        bare: bool, see BytePairTokenizer: for models that others have trained, where tokenizer_config.json of a folder
            that tfzoo wrote does not say.

    Returns:
        A Tokenizer.

    Raises:
        FileNotFoundError: where there is no vocabulary. UnknownKind: for one of a kind that tfzoo does not read.
        DataError: for one that is damaged.
    """
    if str(source) == "bytes":
        return ByteTokenizer()
    path = local_path(source, "the tokenizer")
    folder = path if path.is_dir() else path.parent
    config_file = folder / "tokenizer_config.json"
    config = _read_json(config_file) if config_file.is_file() else {}
    bare = bool(config.get("bare", bare))
    if path.is_dir() and config.get("tokenizer_class") == "tfzoo.ByteTokenizer":
        return ByteTokenizer()
    if path.is_dir():
        path = next((folder / name for name in _files(config) if (folder / name).is_file()), folder / FILES[0])
    if not path.is_file():
        raise FileNotFoundError(f"no vocabulary at {path}: allowed are bytes, {', '.join(FILES)}, or a folder with one")
    if path.suffix == ".model":
        if class_of(config) not in ("", *STYLES):
            raise UnknownKind(f"{path} is that of {shown(config['tokenizer_class'])}: needed is tokenizer.json too")
        if lowercase != "auto":
            config = {**config, "do_lower_case": bool(lowercase), "keep_accents": not lowercase}
        with _named(path):
            return SentencePieceTokenizer(path.read_bytes(), config)
    if path.name == "tokenizer.json":
        return _from_package(path, config, lowercase=lowercase, bare=bare)
    if path.suffix == ".json":
        with _named(path):
            return _of_pair(path, folder / PAIRS.get(path.name, "merges.txt"), config=config, bare=bare)
    if (class_of(config) or "BertTokenizer") not in WORDPIECES or config.get(
            "tokenize_chinese_chars", True) is False or config.get("strip_accents") not in (
            None, config.get("do_lower_case", True)):
        raise UnknownKind(f"{config_file} asks for a WordPiece that is not BERT's: needed is tokenizer.json too")
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    with _named(path):
        return _wordpiece((text[:-1] if text.endswith("\n") else text).split("\n"), config, lowercase)


@contextlib.contextmanager
def _named(path):
    """Name the file in errors about what is in it."""
    try:
        yield
    except DataError as error:
        message = reason_of(error, 300)
        raise type(error)(message if str(path.parent) in message else f"{path}: {message}") from None


def _of_pair(path, merges, config, bare):
    """Read a vocabulary with its merges: GPT's of 2018, known by its words' ends, or a byte-level one."""
    if not merges.is_file():
        raise FileNotFoundError(f"no merges at {merges}: needed beside {path.name}")
    if config.get("add_prefix_space"):
        raise UnknownKind(f"{path} is of a tokenizer with add_prefix_space: needed is tokenizer.json too, which knows "
                          "it")
    ids, pairs = _read_json(path), read_merges(merges)
    gpt = "<unk>" in ids and ids.keys().isdisjoint(("<s>", "<|endoftext|>")) and any(
        token.endswith("</w>") for token in ids)
    if class_of(config) == "OpenAIGPTTokenizer" or (gpt and not class_of(config)):
        if not gpt:
            raise DataError(f"{path} is no vocabulary of GPT's: needed are <unk> and tokens that end with </w>")
        return PackageTokenizer(content_of_gpt(ids, pairs), config)
    return BytePairTokenizer(ids, pairs, bare)


def _wordpiece(vocabulary, config, lowercase):
    if lowercase == "auto":
        capitals = any(token != token.lower() for token in vocabulary if not token.startswith("["))
        lowercase = bool(config.get("do_lower_case", not capitals))
    return WordPieceTokenizer(vocabulary, lowercase)


def _files(config):
    """Return the names of vocabularies, the best first: tokenizer.json says most, SentencePiece runs in graphs."""
    first = {"": SENTENCEPIECE[:1], "T5Tokenizer": SENTENCEPIECE, "AlbertTokenizer": SENTENCEPIECE}
    return [*first.get(class_of(config), ()), "tokenizer.json", *FILES]


def _from_package(path, config, lowercase, bare):
    """Read a tokenizer.json of the `tokenizers` package."""
    content = _read_json(path)
    with _named(path):
        try:
            return _of_content(path, content, config=config, lowercase=lowercase, bare=bare)
        except DataError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path} is damaged ({reason_of(error, 100)}): get it again") from None


def _of_content(path, content, config, lowercase, bare):
    text = path.read_text(encoding="utf-8")
    _check_package(text, content)
    model, vocabulary = content["model"], content["model"]["vocab"]
    kind, splitter, normalizer = model.get("type"), content.get("pre_tokenizer") or {}, content.get("normalizer") or {}
    added = content.get("added_tokens") or ()
    plain = all(token["special"] and token["content"] in vocabulary for token in added)
    if kind == "WordPiece" and plain and _is_bert_s(model, normalizer, splitter):
        return _wordpiece(sorted(vocabulary, key=vocabulary.get), {"do_lower_case": normalizer["lowercase"], **config},
                          lowercase)
    if kind == "BPE" and plain and splitter.get("type") == "ByteLevel" and not splitter["add_prefix_space"] \
            and splitter.get("use_regex", True) and not normalizer and not any(model.get(key) for key in BPE_SETTINGS) \
            and {token["content"] for token in added} <= GPT2_SPECIALS:
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        return BytePairTokenizer(vocabulary, merges, bare)
    if model.get("dropout"):
        raise UnknownKind(f"{path} has dropout {shown(model['dropout'])}: allowed is what gives the same ids twice")
    try:
        return PackageTokenizer(text, config)
    except DataError as error:  # the package reads it, so it is whole
        raise UnknownKind(str(error)) from None


def _check_package(text, content):
    """Raise DataError for a tokenizer.json that the package does not read, UnknownKind for what it does not know."""
    from tokenizers import Tokenizer as Backend
    try:
        backend = Backend.from_str(text)
        largest = max(backend.get_vocab().values(), default=0)
        backend.no_truncation()
        backend.no_padding()
        backend.encode(RARE)  # which fails where there should be a token for what is unknown, and is none
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # its own kinds, and where Rust panics no Exception
        kind = DataError if _is_known(content) else UnknownKind
        raise kind(f"tokenizer.json cannot be read ({reason_of(error, 100)}): get it again") from None
    if largest >= LARGEST:
        raise DataError(f"tokenizer.json has the id {largest:,}: allowed are those below {LARGEST:,}; get it again")


def _is_known(content):
    """Return whether the package has the kinds of all parts of a tokenizer.json."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
    for name, module in (("model", models), ("normalizer", normalizers), ("pre_tokenizer", pre_tokenizers),
                         ("post_processor", processors), ("decoder", decoders)):
        part = content.get(name)
        lists = [one for one in part.values() if isinstance(one, list)] if isinstance(part, dict) else []
        kinds = [one.get("type") for one in [part, *(one for them in lists for one in them)] if isinstance(one, dict)]
        if any(isinstance(kind, str) and not hasattr(module, kind) for kind in kinds):
            return False
    return True


def _is_bert_s(model, normalizer, splitter):
    """Return whether a WordPiece of tokenizer.json does what WordPieceTokenizer does."""
    return splitter.get("type") == "BertPreTokenizer" and normalizer.get("type") == "BertNormalizer" \
        and normalizer["strip_accents"] in (None, normalizer["lowercase"]) and normalizer["handle_chinese_chars"] \
        and normalizer["clean_text"] and all(model.get(key, value) == value for key, value in BERT_S.items()) \
        and sorted(model["vocab"].values()) == list(range(len(model["vocab"])))


def learn_tokenizer(spec, texts, lowercase="auto"):
    """Learn a vocabulary from texts; WordPiece of equal counts come in another order each time.

    WordPiece keeps every character that the size has room for, the most frequent ones first, and reports how many do
    not fit.

    Args:
        spec: "learn:wordpiece:SIZE", "learn:bpe:SIZE" or "bytes".
        texts: iterable of str.
        lowercase: bool, of WordPiece; "auto" is True.

    Returns:
        A Tokenizer.

    Raises:
        ConfigError: for another spec.
    """
    if isinstance(texts, (str, bytes, dict)):  # one string would teach letters
        raise ConfigError(f"texts is {shown(texts)}: allowed is an iterable of strings")
    if spec == "bytes":
        return ByteTokenizer()
    words = spec.split(":")
    least = {"wordpiece": 100, "bpe": 300}.get(words[1] if len(words) == 3 and words[0] == "learn" else None)
    if least is None or not (words[2].isdecimal() and len(words[2]) < 10) or int(words[2]) < least:
        raise ConfigError(f"--tokenizer={spec}: allowed are {SPECS}, with SIZE at least {least or 100}")
    if words[1] == "bpe":
        return learn_merges(int(words[2]), texts)
    return _learn_wordpiece(int(words[2]), texts, lowercase=lowercase is True or lowercase == "auto")


def _learn_wordpiece(size, texts, lowercase):
    from tokenizers import BertWordPieceTokenizer
    learner, seen = BertWordPieceTokenizer(lowercase=lowercase, strip_accents=lowercase), collections.Counter()

    def counted():
        for text in texts:
            seen.update(text)
            yield text

    # With its alphabet unlimited the trainer keeps every character, even beyond the size; the rarest are dropped below.
    learner.train_from_iterator(counted(), vocab_size=size, min_frequency=2, limit_alphabet=LARGEST,
                                show_progress=False, special_tokens=list(SPECIALS))
    ids = learner.get_vocab()
    tokens = sorted(ids, key=ids.get)
    return WordPieceTokenizer(tokens if len(tokens) <= size else _most_frequent(size, tokens, learner, seen), lowercase)


def _most_frequent(size, tokens, learner, seen):
    # A vocabulary that is too large has no merges yet: beside the special tokens its tokens are characters, each as it
    # begins a word ("a"), as it continues one ("##a"), or both.
    counts = collections.Counter()
    for character, count in seen.items():
        for part in learner.normalizer.normalize_str(character):
            counts[part] += count
    forms = {}
    for token in tokens[len(SPECIALS):]:
        forms.setdefault(token.removeprefix("##") or token, []).append(token)
    kept, missing = set(SPECIALS), []
    for character in sorted(forms, key=lambda character: (-counts[character], character)):
        if len(kept) + len(forms[character]) <= size:
            kept.update(forms[character])
        else:
            missing.append(character)
    share = sum(counts[character] for character in missing) / max(1, sum(counts[character] for character in forms))
    tell(f"learn:wordpiece:{size}: {len(missing):,} of {len(forms):,} characters do not fit and become [UNK], "
         f"{share:.1%} of the text; a larger SIZE keeps them")
    return [token for token in tokens if token in kept]
