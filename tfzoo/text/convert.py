"""Conversion of a folder's vocabulary and settings to one tokenizer.json, with the same result as transformers 4.57.

The module reimplements transformers' converters for vocab.txt and for vocab.json with merges.txt, and the changes that
transformers' fast tokenizer classes make to a tokenizer.json when loading it.
"""
import contextlib
import json

import numpy as np

from tfzoo.errors import DataError, UnknownKind, reason_of, shown
from tfzoo.text.added import LONGEST_WORD, WORDPIECES, add_tokens, class_of, token_of


@contextlib.contextmanager
def readable():
    """Convert any exception that the `tokenizers` package raises in the `with` block to a DataError."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, DataError):
        raise
    except BaseException as error:  # the package raises its own types; a Rust panic is not an Exception
        raise DataError(f"tokenizer.json cannot be read ({reason_of(error, 100)}): download it again") from None


def backend_of(content):
    """Create a backend of the `tokenizers` package from a tokenizer.json, with truncation and padding disabled.

    Args:
        content: str, the content of tokenizer.json.

    Returns:
        tokenizers.Tokenizer.

    Raises:
        DataError: if the package cannot read the content.
    """
    from tokenizers import Tokenizer
    with readable():
        backend = Tokenizer.from_str(content)
        backend.no_truncation()
        backend.no_padding()
    return backend


def template_of(backend):
    """Return the special tokens that a backend adds before, between and after texts.

    Args:
        backend: tokenizers.Tokenizer.

    Returns:
        Three lists of int: the ids before the first text, between two texts, and after the last text.

    Raises:
        DataError: if the backend cannot encode the letter a.
    """
    with readable():
        one, two = backend.encode("a"), backend.encode("a", "a")
    edges = np.flatnonzero(np.array([0, *one.special_tokens_mask, 0]) == 0)[1:-1] - 1
    if not len(edges):
        raise DataError("tokenizer.json has no token for the letter a: download it again")
    before, after = one.ids[:edges[0]], one.ids[edges[-1] + 1:]
    length = edges[-1] - edges[0] + 1
    between = two.ids[len(before) + length:len(two.ids) - len(after) - length]
    return list(before), list(between), list(after)


def _normalization(settings):
    return {"lowercase": bool(settings.get("do_lower_case", True)), "strip_accents": settings.get("strip_accents"),
            "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True))}


def complete(content, settings, backend=None):
    """Change a tokenizer.json as the tokenizer class named in the settings does when loading it.

    Args:
        content: str, the content of tokenizer.json.
        settings: dict, from `settings_of`.
        backend: tokenizers.Tokenizer created from `content`, modified in place; None creates one.

    Returns:
        str, the content of the changed tokenizer.json, or `content` itself if nothing changes.

    Raises:
        DataError: if the content cannot be read.
        UnknownKind: if added tokens would not be handled as in transformers, or special tokens to add around texts are
            missing from the vocabulary.
    """
    from tokenizers import normalizers, pre_tokenizers
    backend, state = backend or backend_of(content), json.loads(content)
    changed = add_tokens(backend, settings)
    normalizer, splitter = state.get("normalizer") or {}, state.get("pre_tokenizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        wanted = dict(normalizer)
        if settings["configured"] and class_of(settings) in WORDPIECES:
            wanted.update(_normalization(settings))
        elif settings["asked"] or class_of(settings) == "":
            wanted["lowercase"] = bool(settings.get("do_lower_case", normalizer["lowercase"]))
        if wanted != normalizer:
            del wanted["type"]
            _put_normalizer(backend, normalizers.BertNormalizer(**wanted))
            changed = True
    if not settings["configured"]:  # only tokenizer.json matters
        return backend.to_str() if changed else content
    blank = bool(settings.get("add_prefix_space", False))
    if splitter.get("type") == "ByteLevel" and splitter["add_prefix_space"] is not blank:
        backend.pre_tokenizer, changed = pre_tokenizers.ByteLevel(
            add_prefix_space=blank, use_regex=splitter.get("use_regex", True)), True
    if class_of(settings) == "LlamaTokenizer":
        changed |= _put_llama_s_template(backend, settings)
    return backend.to_str() if changed else content


def _put_normalizer(backend, normalizer):
    # transformers replaces the normalizer after adding the tokens, so they are matched as normalized by the old one.
    # Once the tokenizer is saved and reloaded, they are matched as normalized by the new one.
    for token in backend.get_added_tokens_decoder().values():
        if token.normalized and backend.normalizer.normalize_str(token.content) != normalizer.normalize_str(
                token.content):
            raise UnknownKind(f"the added token {shown(token.content)} matches other texts once transformers has "
                              "saved and reloaded the tokenizer: save it with transformers, or set normalized=false")
    backend.normalizer = normalizer


def _put_llama_s_template(backend, settings):
    from tokenizers import processors
    adds = bool(settings.get("add_bos_token", True)), bool(settings.get("add_eos_token", False))
    tokens = [token_of(settings, role) if there else None for role, there in zip(("bos", "eos"), adds)]
    ids = {token: backend.token_to_id(token) for token in tokens if token}
    if None in ids.values() or any(there and not token for token, there in zip(tokens, adds)):
        raise UnknownKind(f"LlamaTokenizer adds {shown(tokens)} around texts: the vocabulary must contain these tokens")
    before, after = ([ids[token]] if token else [] for token in tokens)
    if template_of(backend) == (before, after + before, after):
        return False
    one, two = ([part for part in (tokens[0], text, tokens[1]) if part] for text in ("$A", "$B"))
    backend.post_processor = processors.TemplateProcessing(single=one, pair=one + two, special_tokens=list(ids.items()))
    return True


def check_names(settings, ids):
    """Check that a WordPiece vocabulary or its settings contain the padding, unknown, [CLS] and [SEP] tokens.

    Args:
        settings: dict, from `settings_of`.
        ids: dict of token to id, the vocabulary.

    Raises:
        DataError: if one of the tokens is missing from both.
    """
    listed = {token["content"] for token in settings["added_tokens_decoder"].values()}
    missing = [str(token) for role in ("pad", "unk", "cls", "sep") if (token := token_of(settings, role)) not in ids
               and token not in listed and not (token and settings.get(f"{role}_token"))]
    if missing:
        raise DataError(f"the vocabulary has no {', '.join(missing)}: download it again")


def of_wordpiece(ids, settings):
    """Convert a vocab.txt to a tokenizer.json.

    Args:
        ids: dict of token to id, the vocabulary.
        settings: dict, from `settings_of`.

    Returns:
        str, the content of tokenizer.json.

    Raises:
        DataError: if [UNK], [CLS], [SEP] or [PAD], or the tokens that replace them in the settings, have no id.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    check_names(settings, ids)
    names = {role: token_of(settings, role) for role in ("unk", "cls", "sep")}
    backend = Tokenizer(models.WordPiece(ids, unk_token=names["unk"], max_input_chars_per_word=LONGEST_WORD))
    normalizer = normalizers.BertNormalizer(**_normalization(settings))
    backend.normalizer = normalizer if settings.get("do_basic_tokenize", True) else normalizers.BertNormalizer(
        handle_chinese_chars=False, strip_accents=False, lowercase=False)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(prefix="##")
    add_tokens(backend, settings)
    _put_normalizer(backend, normalizer)
    backend.post_processor = processors.BertProcessing(*(
        (names[role], backend.token_to_id(names[role])) for role in ("sep", "cls")))
    return backend.to_str()


def of_bytes(ids, merges, settings, roberta):
    """Convert a byte-level vocab.json and its merges to a tokenizer.json.

    Args:
        ids: dict of token to id, the vocabulary.
        merges: list of (str, str), the merges in order.
        settings: dict, from `settings_of`.
        roberta: bool, whether to add RoBERTa's special tokens around each text. Otherwise, as in GPT-2, only the start
            token is added, and only if the settings have a true `add_bos_token`.

    Returns:
        str, the content of tokenizer.json.

    Raises:
        DataError: if the merges do not match the vocabulary, or the vocabulary lacks one of the special tokens to add
            around texts, or the end token (`eos_token`), which is required even though it may not be added to texts.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    try:
        backend = Tokenizer(models.BPE(ids, merges, continuing_subword_prefix="", end_of_word_suffix="",
                                       fuse_unk=False))
    except Exception as error:  # the package raises its own type
        raise DataError(f"the merges do not match the vocabulary: {reason_of(error, 100)}") from None
    blank = bool(settings.get("add_prefix_space", False))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=blank), decoders.ByteLevel()
    add_tokens(backend, settings)
    roles = ("sep", "cls") if roberta else ("bos",) if settings.get("add_bos_token") else ()
    names = {role: token_of(settings, role) for role in (*roles, "eos")}
    missing = [name or role for role, name in names.items() if not name or backend.token_to_id(name) is None]
    if missing:
        raise DataError(f"the vocabulary has no {', '.join(missing)}: download it again")
    around = [(names[role], backend.token_to_id(names[role])) for role in roles]
    if roberta:
        backend.post_processor = processors.RobertaProcessing(*around, add_prefix_space=blank)
    elif around:
        bos = names["bos"]
        backend.post_processor = processors.TemplateProcessing(single=[bos, "$A"], pair=[bos, "$A", "$B"],
                                                               special_tokens=around)
    return backend.to_str()


def of_gpt(ids, merges, settings):
    """Convert the vocabulary of the original GPT to a tokenizer.json, as transformers' OpenAIGPTConverter does.

    Args:
        ids: dict of token to id, the vocabulary.
        merges: list of (str, str), the merges in order.
        settings: dict, from `settings_of`.

    Returns:
        str, the content of tokenizer.json.
    """
    unk = "<unk>"
    return complete(json.dumps({
        "version": "1.0",
        "added_tokens": [{"id": ids[unk], "content": unk, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
        "model": {"type": "BPE", "unk_token": unk, "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": ids,
                  "merges": merges}}), settings)
