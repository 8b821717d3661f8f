"""Tokens that a folder adds to a vocabulary, handled in the same way as by the fast tokenizers of transformers 4.57.

Special tokens, and other tokens that are not in the vocabulary, are listed in tokenizer_config.json,
special_tokens_map.json and added_tokens.json. If there are any, convert.py merges the vocabulary and these tokens into
one tokenizer.json.
"""
import json
import pathlib
import re

from tfzoo.errors import DataError, UnknownKind, reason_of, shown
from tfzoo.files import once

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # the order in which transformers adds them
TEMPLATE = "chat_template.jinja"
FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", TEMPLATE)
LARGEST = 2 ** 24  # ids must be below it
LONGEST_WORD = 100  # characters; WordPiece maps longer words to the unknown token
END = "<|endoftext|>"
ENDS = ("</s>", "<|end_of_text|>", END, "[SEP]", "<|im_end|>")  # tried in order, before unk, if eos_token is not set
_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
WORDPIECES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")
# The default special tokens of each class.
DEFAULTS = {
    **dict.fromkeys(WORDPIECES, _BERT),
    "AlbertTokenizer": {**_BERT, "bos": "[CLS]", "eos": "[SEP]", "unk": "<unk>", "pad": "<pad>"},
    "GPT2Tokenizer": {"bos": END, "eos": END, "unk": END},
    "LlamaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    "OpenAIGPTTokenizer": {"unk": "<unk>"},
    "Qwen2Tokenizer": {"eos": END, "unk": END, "pad": END},
    "RobertaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>",
                         "mask": "<mask>"},
    "T5Tokenizer": {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}}
# model_type -> (class, vocabulary file), used if no file names a class and the vocabulary exists.
CLASSES = {
    "albert": ("AlbertTokenizer", "spiece.model"), "bert": ("BertTokenizer", "vocab.txt"),
    "distilbert": ("DistilBertTokenizer", "vocab.txt"), "electra": ("ElectraTokenizer", "vocab.txt"),
    "gpt2": ("GPT2Tokenizer", "vocab.json"), "llama": ("LlamaTokenizer", "tokenizer.model"),
    "mistral": ("LlamaTokenizer", "tokenizer.model"), "openai-gpt": ("OpenAIGPTTokenizer", "vocab.json"),
    "qwen2": ("Qwen2Tokenizer", "vocab.json"), "roberta": ("RobertaTokenizer", "vocab.json"),
    "t5": ("T5Tokenizer", "spiece.model")}
NAMES = {token for names in DEFAULTS.values() for token in names.values()}
SENTINEL = re.compile(r"<extra_id_\d+>")
EARLIER = {"tokenizer_class", "bos_token", "eos_token", "pad_token", "unk_token", "mask_token"}
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


def read_json(path):
    """Read a JSON file that contains an object.

    Args:
        path: pathlib.Path.

    Returns:
        dict.

    Raises:
        DataError: if the content is not JSON or not an object, or has a duplicate key.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({reason_of(error, 100)}); download it again") from None
    return found


def class_of(config):
    """Return the class named in a tokenizer_config.json (dict), without the suffix Fast, or "" if none is named."""
    return str(config.get("tokenizer_class") or "").removesuffix("Fast")


def content_of(token):
    """Return the text of a token given as str or dict, or None if it is empty or of another type."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) and token else None


def token_of(config, name):
    """Return a special token named in a tokenizer_config.json, or the default for its tokenizer class: str or None.

    Args:
        config: dict, the content of tokenizer_config.json.
        name: str, the token's role, one of ROLES.
    """
    default = DEFAULTS.get(class_of(config), {}).get(name)
    return content_of(config.get(f"{name}_token", default))


def settings_of(folder):
    """Read the settings of a folder's tokenizer.

    Args:
        folder: pathlib.Path.

    Returns:
        dict, the content of tokenizer_config.json, merged with special_tokens_map.json and added_tokens.json unless
        tokenizer_config.json lists added tokens itself. These keys are always present: `tokenizer_class`, taken from
        config.json if tokenizer_config.json has none; `added_tokens_decoder`, dict of int to dict; `configured`, bool,
        whether the folder has a tokenizer_config.json that transformers would follow; and `asked`, False, which
        `load_tokenizer` changes to True if its caller specifies `lowercase`. `chat_template` comes from
        chat_template.jinja, if there is one.

    Raises:
        DataError: if a file is damaged.
    """
    def found(name):
        return read_json(folder / name) if (folder / name).is_file() else {}

    config = found("tokenizer_config.json")
    if (folder / TEMPLATE).is_file():
        config["chat_template"] = (folder / TEMPLATE).read_text(encoding="utf-8", errors="replace")
    settings = {**config, "configured": bool(config.keys() - {"chat_template"}), "asked": False}
    if config.get("tokenizer_class") == "PreTrainedTokenizerFast" and config.keys() <= EARLIER:
        settings.update(configured=False, split_special_tokens=True)  # as in the earlier version of tfzoo that saved it
    if not config.get("tokenizer_class"):
        model = found("config.json")
        name, vocabulary = CLASSES.get(str(model.get("model_type")), (None, ""))
        there = any((folder / file).is_file() for file in (vocabulary, "tokenizer.json") if file)
        settings["tokenizer_class"] = model.get("tokenizer_class") or (name if there else None)
    try:
        if "added_tokens_decoder" in config:
            listed = {int(number): dict(token) for number, token in config["added_tokens_decoder"].items()}
        else:
            extra = _list_of(settings.get("additional_special_tokens"))
            settings.update(found("special_tokens_map.json"))
            more = _list_of(settings.get("additional_special_tokens"))
            settings["additional_special_tokens"] = extra + [token for token in more if token not in extra]
            special = {content_of(token) for token in named_tokens(settings)}
            listed = {number: {"content": token, "special": token in special}
                      for token, number in found("added_tokens.json").items()}
        settings["added_tokens_decoder"] = {number: _checked(token, number) for number, token in listed.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder}: the added tokens are damaged ({reason_of(error, 100)}): download the folder again"
                        ) from None
    return settings


def write_settings(folder, config, chat_template=None):
    """Write a tokenizer_config.json.

    Args:
        folder: str or path, an existing folder.
        config: dict.
        chat_template: the tokenizer's chat template, or None.
    """
    config = config if chat_template is None else {**config, "chat_template": chat_template}
    (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")


def _list_of(tokens):
    return list(tokens) if isinstance(tokens, (list, tuple)) else []


def _checked(token, number):
    if content_of(token) is None or type(number) is not int or not 0 <= number < LARGEST:
        raise ValueError(f"{shown(token)} has the id {shown(number)}")
    return token


def named_tokens(settings):
    """Return the special tokens named in the settings, in the order in which they are added: list of str or dict."""
    default = DEFAULTS.get(class_of(settings), {})
    roles = [settings.get(f"{role}_token", default.get(role)) for role in ROLES]
    more = settings.get("extra_special_tokens")
    return [token for token in (*roles, *_list_of(settings.get("additional_special_tokens")),
                                *(more.values() if isinstance(more, dict) else ())) if content_of(token)]


def _token(token, special):
    from tokenizers import AddedToken
    if isinstance(token, str):
        return AddedToken(token, special=special)
    flags = {flag: bool(token[flag]) for flag in FLAGS if flag in token}
    return AddedToken(token["content"], **{**flags, "special": flags.get("special", False) or special})


def add_tokens(backend, settings):
    """Add the same tokens to a backend of the `tokenizers` package as transformers would, in the same order.

    A special token that has a role and is already in the vocabulary is not added, so that it is encoded as ordinary
    text if a text spells it out.

    Args:
        backend: tokenizers.Tokenizer, modified in place.
        settings: dict, from `settings_of`.

    Returns:
        bool, whether any token was added.

    Raises:
        UnknownKind: if a token's id would differ from its id in the settings, or is already taken by another token.
    """
    before, there = backend.get_vocab(), {token.content: token for token in backend.get_added_tokens_decoder().values()}
    named, listed = named_tokens(settings), sorted(settings["added_tokens_decoder"].items())
    special = {content_of(token) for token in named}
    tokens = [_token(token, token["content"] in special) for _, token in listed]
    tokens = [token for token in tokens if repr(token) != repr(there.get(token.content))]
    known = {*there, *(token.content for token in tokens)}
    same = {repr(token) for token in (*tokens, *there.values())}  # a token named with other flags is added again
    more = [token for token in named if (token not in known if isinstance(token, str) else
                                         repr(_token(token, True)) not in same)]
    given = {content_of(settings.get(f"{role}_token")) for role in ROLES}
    while more and content_of(more[-1]) in NAMES - given and content_of(more[-1]) not in before:
        more.pop()  # it is only a default of the class, and has no id
    tokens += [_token(token, True) for token in more]
    tokens = [token for token in tokens if token.content not in before or not is_text(token.content, settings)]
    backend.add_tokens(tokens)
    ids, taken = backend.get_vocab(), set(before.values())
    for number, token in listed:
        if ids[token["content"]] != number:
            raise UnknownKind(f"the added token {shown(token['content'])} has the id {number:,} in its file, but "
                              f"{ids[token['content']]:,} in transformers: the ids of added tokens must follow "
                              "directly after the vocabulary's ids")
    for token in tokens:
        if token.content not in before and ids[token.content] in taken:
            raise UnknownKind(f"the added token {shown(token.content)} gets the id {ids[token.content]:,}, which "
                              "another token already has: the vocabulary's ids must be consecutive")
    return bool(tokens)


def is_text(token, settings):
    """Return whether a special token that a text spells out is encoded as text: one with a role, or a T5 sentinel."""
    return token in NAMES or token in {token_of(settings, role) for role in ROLES} or bool(SENTINEL.fullmatch(token))


def is_plain(settings, ids, names):
    """Return whether settings neither add tokens to a vocabulary nor rename its special tokens.

    Args:
        settings: dict, from `settings_of`.
        ids: dict of token to id, the vocabulary.
        names: dict of role to token, the special tokens.
    """
    own = set(names.values())
    listed = [(token["content"], number) for number, token in settings["added_tokens_decoder"].items()]
    return all(token in own and ids.get(token) == number for token, number in listed) \
        and all(content_of(token) in own & ids.keys() for token in named_tokens(settings)) \
        and all(token_of(settings, role) in (None, token) for role, token in names.items())
