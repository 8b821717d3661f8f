"""Loading tokenizers from files and folders, and learning vocabularies from texts."""
import collections
import contextlib
import json

from tfzoo.errors import ConfigError, DataError, UnknownKind, reason_of, shown
from tfzoo.files import local_path
from tfzoo.progress import tell
from tfzoo.text.added import FILES as SETTINGS
from tfzoo.text.added import DEFAULTS, LARGEST, LONGEST_WORD, WORDPIECES, class_of, is_plain, read_json, settings_of
from tfzoo.text.bpe import SPECIALS as BYTE_SPECIALS
from tfzoo.text.bpe import BytePairTokenizer, learn_merges, read_merges
from tfzoo.text.byte import ByteTokenizer
from tfzoo.text.convert import (
    backend_of, check_names, complete, of_bytes, of_gpt, of_wordpiece, readable, template_of)
from tfzoo.text.package import PackageTokenizer
from tfzoo.text.sentencepiece import STYLES, SentencePieceTokenizer, check_added
from tfzoo.text.wordpiece import SPECIALS, WordPieceTokenizer

BERT_S, GPT2_S, ROBERTA_S = (DEFAULTS[f"{name}Tokenizer"] for name in ("Bert", "GPT2", "Roberta"))
WORDPIECE = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": LONGEST_WORD}
BPE_SETTINGS = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                "ignore_merges")
RARE = "\u16a0\ua000 \u0e01\U0001f600"
SENTENCEPIECE = ("spiece.model", "tokenizer.model")
PAIRS = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}  # Hugging Face's names, OpenAI's names
FILES = ("vocab.txt", *PAIRS, *SENTENCEPIECE, "tokenizer.json")
VOCABULARIES = {*FILES, *PAIRS.values(), *SETTINGS}  # all files that a tokenizer can be read from
SPECS = "bytes, learn:wordpiece:SIZE or learn:bpe:SIZE"


def load_tokenizer(source, lowercase="auto", bare=False):
    """Load a tokenizer.

    Args:
        source: "bytes", a vocabulary file, or a folder with one. Supported files are vocab.txt (Google, Hugging Face),
            vocab.json with merges.txt (byte-level BPE, or the original GPT), encoder.json with vocab.bpe (OpenAI),
            spiece.model or tokenizer.model (SentencePiece: T5, ALBERT, Llama), and tokenizer.json (Hugging Face).
        lowercase: bool, or "auto" to follow tokenizer_config.json if it has `do_lower_case`, and otherwise to lowercase
            texts if the vocabulary has no capitals.
        bare: bool, whether to omit the special tokens that tfzoo adds around texts in its own GPT-2 models (see
            `BytePairTokenizer`). If tokenizer_config.json has the key `bare`, its value takes precedence.

    Returns:
        A Tokenizer.

    Raises:
        FileNotFoundError: if there is no vocabulary.
        UnknownKind: if tfzoo does not support this kind of tokenizer.
        DataError: if a file is damaged.
    """
    if str(source) == "bytes":
        return ByteTokenizer()
    path = local_path(source, "the tokenizer")
    settings = settings_of(path if path.is_dir() else path.parent)
    tokenizer = _from_path(path, settings, lowercase, bare)
    tokenizer.chat_template = settings.get("chat_template")
    return tokenizer


def _from_path(path, settings, lowercase, bare):
    folder = path if path.is_dir() else path.parent
    bare = bool(settings.get("bare", bare))
    if lowercase != "auto":
        settings.update(do_lower_case=bool(lowercase), keep_accents=not lowercase, asked=True)
    whole = folder / "tokenizer.json"
    if path.is_dir():
        if settings["tokenizer_class"] == "tfzoo.ByteTokenizer":
            return ByteTokenizer()
        path = next((folder / name for name in _files(settings) if (folder / name).is_file()), folder / FILES[0])
        if path.suffix == ".model" and whole.is_file():
            try:
                return _of_pieces(path, settings)
            except DataError:  # tokenizer.json may contain tokens that the SentencePiece model lacks
                path = whole
    if not path.is_file():
        raise FileNotFoundError(f"no vocabulary at {path}: expected bytes, {', '.join(FILES)}, or a folder with one of "
                                "these files")
    if path.suffix == ".model":
        return _of_pieces(path, settings)
    if path.name == "tokenizer.json":
        return _from_package(path, settings, bare)
    if path.suffix == ".json":
        return _of_pair(path, folder / PAIRS.get(path.name, "merges.txt"), settings=settings, bare=bare)
    return _of_words(path, settings, bare)


@contextlib.contextmanager
def _named(path):
    try:
        yield
    except DataError as error:
        message = reason_of(error, 300)
        raise type(error)(message if str(path.parent) in message else f"{path}: {message}") from None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged ({reason_of(error, 100)}): download it again") from None


def _of_pieces(path, settings):
    if class_of(settings) not in ("", *STYLES):
        raise UnknownKind(f"{path} belongs to {shown(settings['tokenizer_class'])}: provide its tokenizer.json too")
    whole = path.parent / "tokenizer.json"
    with _named(path):
        tokenizer = SentencePieceTokenizer(path.read_bytes(), settings)
        added = read_json(whole).get("added_tokens") or () if whole.is_file() else ()
        check_added(tokenizer, [*settings["added_tokens_decoder"].items(), *((token["id"], token) for token in added)],
                    settings)
    return tokenizer


def _of_pair(path, merges, settings, bare):
    # The original GPT's vocabulary marks the ends of words with </w>; all other supported vocabularies are byte-level.
    if not merges.is_file():
        raise FileNotFoundError(f"no merges at {merges}: put them in the same folder as {path.name}")
    ids, pairs, named = read_json(path), read_merges(merges), class_of(settings)
    gpt = "<unk>" in ids and ids.keys().isdisjoint(("<s>", "<|endoftext|>")) and any(
        token.endswith("</w>") for token in ids)
    if named not in ("", "OpenAIGPTTokenizer", *BYTE_SPECIALS):
        raise UnknownKind(f"{path} belongs to {shown(settings['tokenizer_class'])}: provide its tokenizer.json too")
    with _named(path):
        if not all(type(number) is int for number in ids.values()):
            raise DataError("the vocabulary must map tokens to integers: download it again")
        if named == "OpenAIGPTTokenizer" or (gpt and not named):
            if not gpt:
                raise DataError("not GPT's vocabulary: it must contain <unk> and tokens that end with </w>")
            return PackageTokenizer(of_gpt(ids, pairs, settings), settings)
        roberta = named == "RobertaTokenizer" or (not named and ids.keys() >= set(ROBERTA_S.values()))
        settings = {**settings, "tokenizer_class": "RobertaTokenizer" if roberta else "GPT2Tokenizer"}
        if is_plain(settings, ids, ROBERTA_S if roberta else GPT2_S) and roberta == (
                ids.keys() >= set(ROBERTA_S.values())) and not settings.get("add_prefix_space") and (
                roberta or not settings.get("add_bos_token")):
            try:
                return BytePairTokenizer(ids, pairs, bare)
            except DataError:
                if not bare:
                    raise
        return PackageTokenizer(of_bytes(ids, pairs, settings, roberta), settings)


def _of_words(path, settings, bare):
    # A token may occur twice in a vocab.txt that tfzoo did not write; its last line determines the id.
    if (class_of(settings) or "BertTokenizer") not in WORDPIECES or (path.parent / "bpe.codes").is_file():
        raise UnknownKind(f"{path} belongs to {shown(settings['tokenizer_class'])}, not BERT: provide its "
                          "tokenizer.json too")
    text = path.read_text(encoding="utf-8", errors="replace")
    vocabulary = (text[:-1] if text.endswith("\n") else text).split("\n")
    capitals = any(token != token.lower() for token in vocabulary if not token.startswith("["))
    if bare and capitals and "do_lower_case" not in settings:
        tell(f"{path} has capitals and tokenizer_config.json has no do_lower_case: texts keep their case, whereas "
             "transformers lowercases them; set do_lower_case in that file to choose")
    settings = {"do_lower_case": not capitals, **settings,
                "tokenizer_class": settings["tokenizer_class"] or "BertTokenizer"}
    ids = {token: number for number, token in enumerate(vocabulary)}
    with _named(path):
        whole = len(ids) == len(vocabulary) and ids.keys() >= set(SPECIALS)
        if (whole or not bare) and is_plain(settings, {**dict.fromkeys(SPECIALS), **ids}, BERT_S) \
                and settings.get("tokenize_chinese_chars", True) is not False \
                and settings.get("strip_accents") in (None, settings["do_lower_case"]):
            return WordPieceTokenizer(vocabulary, bool(settings["do_lower_case"]))
        return PackageTokenizer(of_wordpiece(ids, settings), settings)


def _files(settings):
    # In order of preference: tokenizer.json is the most complete, but SentencePiece works inside graphs.
    first = {"": SENTENCEPIECE[:1], "T5Tokenizer": SENTENCEPIECE, "AlbertTokenizer": SENTENCEPIECE}
    return [*first.get(class_of(settings), ()), "tokenizer.json", *FILES]


def _from_package(path, settings, bare):
    content = read_json(path)
    with _named(path):
        text = path.read_text(encoding="utf-8")
        return _of_content(complete(text, settings, _checked(text, content)), settings, bare)


def _of_content(text, settings, bare):
    content = json.loads(text)
    model, vocabulary = content["model"], content["model"]["vocab"]
    if model.get("dropout"):
        raise UnknownKind(f"the model has dropout {shown(model['dropout'])}, which makes the ids random: set it to "
                          "null")
    kind, splitter, normalizer = model.get("type"), content.get("pre_tokenizer") or {}, content.get("normalizer") or {}
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    if kind == "WordPiece" and class_of(settings) in WORDPIECES:
        check_names(settings, {**vocabulary, **added})
    if kind == "WordPiece" and _is_bert_s(model, normalizer, splitter) and _adds_only(added, BERT_S, content, settings):
        return WordPieceTokenizer(sorted(vocabulary, key=vocabulary.get), normalizer["lowercase"])
    roberta = kind == "BPE" and vocabulary.keys() >= set(ROBERTA_S.values())
    if kind == "BPE" and splitter.get("type") == "ByteLevel" and not splitter["add_prefix_space"] \
            and splitter.get("use_regex", True) and not normalizer and not any(model.get(key) for key in BPE_SETTINGS) \
            and _adds_only(added, ROBERTA_S if roberta else GPT2_S, content, settings):
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        with contextlib.suppress(DataError):  # a vocabulary that tfzoo did not learn may lack a byte
            return BytePairTokenizer(vocabulary, merges, bare)
    try:
        return PackageTokenizer(text, settings)
    except DataError as error:  # `tokenizers` can read the file, so it is not damaged
        raise UnknownKind(str(error)) from None


def _adds_only(added, names, content, settings):
    # Whether the only tokens that a tokenizer.json adds are these special tokens, in the same places around texts as in
    # tfzoo's own class.
    ids = content["model"]["vocab"]
    if not all(token in names.values() and ids.get(token) == number for token, number in added.items()) \
            or not is_plain(settings, ids, names):
        return False
    if not content.get("post_processor") and names is BERT_S:
        return True
    start, end = ([ids[names[role]]] if role in names else [] for role in ("cls", "sep"))
    return template_of(backend_of(json.dumps(content))) == (start, end * 2 if names is ROBERTA_S else end, end)


def _checked(text, content):
    try:
        backend = backend_of(text)
        with readable():
            backend.encode(RARE)  # fails if the model requires an unknown token but has none
    except DataError as error:
        raise (error if _is_known(content) else UnknownKind(str(error))) from None
    largest = max(backend.get_vocab().values(), default=0)
    if largest >= LARGEST:
        raise DataError(f"tokenizer.json has the id {largest:,}: ids must be below {LARGEST:,}; download it again")
    return backend


def _is_known(content):
    # Whether the installed version of `tokenizers` supports the types of all parts.
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
    return splitter.get("type") == "BertPreTokenizer" and normalizer.get("type") == "BertNormalizer" \
        and normalizer["strip_accents"] in (None, normalizer["lowercase"]) and normalizer["handle_chinese_chars"] \
        and normalizer["clean_text"] and all(model.get(key, value) == value for key, value in WORDPIECE.items()) \
        and sorted(model["vocab"].values()) == list(range(len(model["vocab"])))


def learn_tokenizer(spec, texts, lowercase="auto"):
    """Learn a vocabulary from texts.

    WordPiece keeps as many characters as the size allows, the most frequent first, and reports how many do not fit. The
    order of tokens with equal counts varies between runs.

    Args:
        spec: str, "learn:wordpiece:SIZE", "learn:bpe:SIZE" or "bytes".
        texts: iterable of str.
        lowercase: bool or "auto" (the same as True), whether to lowercase texts; ignored except for WordPiece.

    Returns:
        A Tokenizer.

    Raises:
        ConfigError: if the spec is unknown, or `texts` is a single string or a dict.
    """
    if isinstance(texts, (str, bytes, dict)):  # a single string would be treated as a list of letters
        raise ConfigError(f"texts must be an iterable of strings, got {shown(texts)}")
    if spec == "bytes":
        return ByteTokenizer()
    words = spec.split(":")
    least = {"wordpiece": 100, "bpe": 300}.get(words[1] if len(words) == 3 and words[0] == "learn" else None)
    if least is None or not (words[2].isdecimal() and len(words[2]) < 10) or int(words[2]) < least:
        raise ConfigError(f"--tokenizer={spec}: expected {SPECS}, with SIZE at least {least or 100}")
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

    # With an unlimited alphabet, the trainer keeps every character, even beyond the size; the rarest are dropped below.
    learner.train_from_iterator(counted(), vocab_size=size, min_frequency=2, limit_alphabet=LARGEST,
                                show_progress=False, special_tokens=list(SPECIALS))
    ids = learner.get_vocab()
    tokens = sorted(ids, key=ids.get)
    return WordPieceTokenizer(tokens if len(tokens) <= size else _most_frequent(size, tokens, learner, seen), lowercase)


def _most_frequent(size, tokens, learner, seen):
    # A vocabulary that is too large has no merges yet: apart from special tokens, it consists of characters that begin
    # a word ("a"), continue one ("##a"), or both.
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
