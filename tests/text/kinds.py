"""All kinds of tokenizers with their references: the authors' packages, and the special tokens of transformers.

Vocabularies that are missing from the development data are learned from English, German and Chinese lines.
"""
import json

import numpy as np
import sentencepiece
from tokenizers import (BertWordPieceTokenizer, ByteLevelBPETokenizer, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

from tests.helpers import real_lines, vocab_dir
from tfzoo.text import load_tokenizer

# What patterns treat differently: contractions, whitespace, letters, numbers, marks, and parts of special tokens. Marks
# that Unicode has had since 2018 are absent, because tf-text's NFC does not know them.
PARTS = [
    "'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'lL", "'d", "'\u017f", "'", "''", " ", "  ", "\t", "\n", "\r", "\r\n",
    "\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u200b", "\u2028", "\u3000", "a", "B", "re",
    "\u00e9", "e\u0301", "\u017f", "\u01c5", "\u02b0", "\u4e2d", "\u0e01\u0e33", "\u1e9e", "1", "23", "4567", "\u00b2",
    "\u0661", "\u2167", "\u00bd", "\u3007", "!", "...", "/", "_", "\u0300", "\u0345", "\U0001f600", "\u200d", "\ufeff",
    "\ufffd", "\uffff", "\U0010ffff", "\x00", "<", "|", ">", "<|im_start|>", "<|im_end|>", "<|im_", "start|>", "\u27e6",
    "\u27e7", "\u0120", "\U0001e922", "\U000105c0", "\U0001ccf0", "\U00011bf0", "\U000323b0", "\ua7cb", "\ud7a3",
    "\u1100\u1161\u11a8", "\uac00\u11a8", "\u212b", "\u0958", "\u0344", "\uf900", "\U0001d15e", "a\u0327\u0301",
    "a\u0301\u0327", "\u0338"]
CONTRACTIONS, REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|", \
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def spliced_texts(count, parts=PARTS):
    """Return random sequences of parts, as bytes."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(parts, rng.integers(0, 14))).encode() for _ in range(count)]


class Reference:
    """Encode, truncate and join texts with a backend of `tokenizers`; `spell` converts a text to its input."""

    def __init__(self, backend, spell=lambda text: text):
        backend.encode_special_tokens = True  # encode special tokens spelled in a text as text
        backend.no_padding()
        self.backend, self.spell = backend, spell

    def encode(self, texts):
        """Return the ids without special tokens: list of lists."""
        self.backend.no_truncation()
        return [encoding.ids for encoding in self.backend.encode_batch(list(map(self.spell, texts)),
                                                                       add_special_tokens=False)]

    def join(self, parts, max_length):
        """Return (ids, segment ids) of each text or pair of texts, with special tokens."""
        self.backend.no_truncation()
        if max_length:
            self.backend.enable_truncation(max_length, strategy="longest_first")
        rows = list(zip(*(map(self.spell, part) for part in parts))) if len(parts) == 2 else list(
            map(self.spell, parts[0]))
        return [(encoding.ids, encoding.type_ids) for encoding in self.backend.encode_batch(rows)]


def learn_bpe(backend, specials=(), size=1500, **settings):
    """Train a BPE backend on real lines, with a byte-level alphabet if its pre-tokenizer is byte-level."""
    alphabet = pre_tokenizers.ByteLevel.alphabet() if "ByteLevel" in repr(backend.pre_tokenizer) else []
    backend.train_from_iterator(real_lines()[::5], trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False, **settings))
    return backend


def learn_sentencepiece(folder, name, lowercase=False, **settings):
    """Train a SentencePiece model on real lines and return the package's processor."""
    lines = [line.lower() if lowercase else line for line in real_lines()[::5]]
    (folder / "text").write_text("\n".join(lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / name), vocab_size=2000, character_coverage=0.98,
        minloglevel=2, **settings)
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.model"))


def template(ids, single, pair):
    """Return a post-processor that puts special tokens around one or two texts; `ids` maps tokens to ids."""
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=[
        (token, number) for token, number in ids.items() if f"{token}:" in f"{pair} {single}"])


def of_pieces(package, single, pair):
    """Return the reference of a SentencePiece model, whose ids are truncated and joined as the words of a backend."""
    backend = Tokenizer(models.WordLevel({str(number): number for number in range(package.vocab_size())}))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = template({package.id_to_piece(number): number for number in range(package.vocab_size())},
                                      single, pair)
    return Reference(backend, lambda text: " ".join(map(str, package.encode(text))))


def saved(backend, folder, **config):
    """Save a backend and return the tokenizer loaded from the folder, with the backend as its reference."""
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(folder), Reference(backend)


def wordpiece(name):
    folder = vocab_dir() / name
    tokenizer = load_tokenizer(folder)
    assert tokenizer.lowercase == (name == "bert_uncased")  # the other vocabularies have capitals
    reference = BertWordPieceTokenizer.from_file(str(folder / "vocab.txt"), lowercase=tokenizer.lowercase)
    return tokenizer, Reference(reference._tokenizer)


def gpt2(folder):
    folder = vocab_dir() / "gpt2"
    reference = ByteLevelBPETokenizer.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    return load_tokenizer(folder, bare=True), Reference(reference._tokenizer)


def roberta(folder, whole=False):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    learn_bpe(backend, ROBERTA)
    backend.post_processor = processors.RobertaProcessing(*(
        (token, backend.token_to_id(token)) for token in ("</s>", "<s>")))
    if whole:
        return saved(backend, folder)
    backend.model.save(str(folder))
    return load_tokenizer(folder), Reference(backend)


def byte_bpe(split, normalizer=None, specials=(), **settings):
    backend = Tokenizer(models.BPE(**settings))
    if normalizer:
        backend.normalizer = normalizer
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), decoders.ByteLevel()
    return learn_bpe(backend, specials)


def llama3(folder):
    backend = byte_bpe(CONTRACTIONS + r"\p{N}{1,3}" + REST, specials=["<|begin_of_text|>", "<|end_of_text|>"],
                       ignore_merges=True)
    backend.post_processor = template(backend.get_vocab(), "<|begin_of_text|>:0 $A:0",
                                      "<|begin_of_text|>:0 $A:0 <|begin_of_text|>:1 $B:1")
    return saved(backend, folder, eos_token={"content": "<|end_of_text|>"})


def qwen2(folder):
    backend = byte_bpe(CONTRACTIONS + r"\p{N}" + REST, normalizers.NFC())
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return saved(backend, folder, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def tekken(folder):
    """Build the tokenizer of Mistral NeMo, whose pattern tells upper and lower case apart."""
    lead, upper, lower = r"[^\r\n\p{L}\p{N}]?", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    backend = byte_bpe(lead + upper + "*" + lower + "+|" + lead + upper + "+" + lower + r"*|\p{N}"
                       + REST.replace(r"[\r\n]*", r"[\r\n/]*"), specials=["<s>", "</s>"])
    backend.post_processor = template(backend.get_vocab(), "<s>:0 $A:0", "<s>:0 $A:0 <s>:1 $B:1")
    return saved(backend, folder, eos_token="</s>")


def smollm(folder):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    return saved(learn_bpe(backend, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), folder)


def gpt(folder, whole=True):
    """Build GPT's tokenizer (2018) as transformers' OpenAIGPTConverter does: lowercased, with word-end tokens."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), \
        pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    learn_bpe(backend, ["<unk>"], end_of_word_suffix="</w>", limit_alphabet=400)
    if whole:
        return saved(backend, folder)
    backend.model.save(str(folder))
    return load_tokenizer(folder), Reference(backend)


def llama2(folder, kind):
    """Build Llama 2's and Mistral's tokenizer as tokenizer.model or as one of transformers' forms of tokenizer.json."""
    around = "<s>:0 $A:0", "<s>:0 $A:0 <s>:1 $B:1"
    package = learn_sentencepiece(folder, "tokenizer", model_type="bpe", byte_fallback=True, split_digits=True,
                                  normalization_rule_name="identity", remove_extra_whitespaces=False,
                                  allow_whitespace_only_pieces=True)
    if kind == "model":
        return load_tokenizer(folder), of_pieces(package, *around)
    ids = {package.id_to_piece(number): number for number in range(package.vocab_size())}
    halves = [(number, piece[:place], piece[place:]) for piece, number in ids.items() for place in range(1, len(piece))]
    merges = [(left, right) for _, left, right in sorted(
        (half for half in halves if {*half[1:]} <= ids.keys()), key=lambda half: (half[0], ids[half[1]], ids[half[2]]))]
    backend = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if kind == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(content=" ", left=1)])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = template(ids, *around)
    return saved(backend, folder, tokenizer_class="LlamaTokenizer")


def t5(folder, whole=False):
    tokenizer = load_tokenizer(vocab_dir() / "t5")
    if whole:  # the same tokenizer, converted by transformers
        return tokenizer, Reference(Tokenizer.from_file(str(vocab_dir() / "t5" / "tokenizer.json")))
    package = sentencepiece.SentencePieceProcessor(model_file=str(vocab_dir() / "t5" / "spiece.model"))
    return tokenizer, of_pieces(package, "$A:0 </s>:0", "$A:0 </s>:0 $B:1 </s>:1")


def albert(folder, **config):
    """Build ALBERT's tokenizer with the normalizers and settings of transformers' AlbertConverter."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "AlbertTokenizer", **config}))
    lowercase = config.get("do_lower_case", True)
    package = learn_sentencepiece(folder, "spiece", lowercase, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                                  control_symbols=["[CLS]", "[SEP]", "[MASK]"])
    parts = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    parts += [] if config.get("keep_accents") else [normalizers.NFKD(), normalizers.StripAccents()]
    cleaner = normalizers.Sequence(parts + ([normalizers.Lowercase()] if lowercase else []))
    reference = of_pieces(package, "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
    spell = reference.spell
    reference.spell = lambda text: spell(cleaner.normalize_str(text))
    return load_tokenizer(folder), reference


MAKERS = {
    "bert_uncased": lambda folder: wordpiece("bert_uncased"), "bert_cased": lambda folder: wordpiece("bert_cased"),
    "bert_chinese": lambda folder: wordpiece("bert_chinese"), "gpt2": gpt2, "roberta": roberta,
    "roberta_json": lambda folder: roberta(folder, whole=True), "llama3": llama3, "qwen2": qwen2, "tekken": tekken,
    "smollm": smollm,
    "gpt": lambda folder: gpt(folder, whole=False), "gpt_json": gpt,
    "llama2": lambda folder: llama2(folder, "model"), "llama2_json": lambda folder: llama2(folder, "prepend"),
    "mistral_json": lambda folder: llama2(folder, "metaspace"), "t5": t5,
    "t5_json": lambda folder: t5(folder, whole=True), "albert": albert,
    "albert_cased": lambda folder: albert(folder, do_lower_case=False),
    "albert_accents": lambda folder: albert(folder, keep_accents=True)}
