"""Small sentence-transformers folders derived from a seed, and the texts whose vectors are stored in a golden file.

This module is imported in environments with sentence-transformers (make_vectors.py) and with tfzoo (tests), so it
requires only NumPy.
"""
import json

from safetensors.numpy import save_file

from tests.golden import families

TEXTS = ["a fine film", "", "  The Film ended.  ", "\tfine fine fine fine fine fine fine fine fine fine fine", "A",
         "query : fine"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a fine film the ended . query : # passage The Film A".split()]
BERT = {"architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": len(WORDS), "hidden_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 17, "max_position_embeddings": 24}
ROBERTA = {**BERT, "architectures": ["RobertaModel"], "model_type": "roberta", "vocab_size": 261,
           "max_position_embeddings": 26, "type_vocab_size": 1}
NAMES = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "mean_sqrt": "mean_sqrt_len_tokens",
         "weighted": "weightedmean_tokens", "last": "lasttoken"}
PROMPTS = {"prompts": {"query": "query: ", "passage": "The Film"}, "default_prompt_name": "query"}
# name -> (model, poolings, whether Normalize follows, further settings of Pooling, the Transformer and the folder)
CASES = {
    "mean_normalized": (BERT, ["mean"], True, {}, {"max_seq_length": 9, "do_lower_case": False}, {}),
    "first": (BERT, ["cls"], False, {}, {"do_lower_case": True}, {}),
    "all": (BERT, list(NAMES), False, {"include_prompt": True}, {}, {"similarity_fn_name": "dot"}),
    "prompt": (BERT, ["mean", "last"], True, {}, {"max_seq_length": 7}, PROMPTS),
    "without_prompt": (BERT, ["mean", "mean_sqrt", "weighted", "last"], False, {"include_prompt": False}, {}, PROMPTS),
    "max_without_prompt": (BERT, ["max"], True, {"include_prompt": False}, {"max_seq_length": 24}, PROMPTS),
    "roberta": (ROBERTA, ["mean", "max"], True, {}, {}, PROMPTS)}


def _weights_of(config, seed):
    width, ffn = config["hidden_size"], config["intermediate_size"]
    shapes = {"embeddings.word_embeddings.weight": (config["vocab_size"], width),
              "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
              "embeddings.token_type_embeddings.weight": (config.get("type_vocab_size", 2), width),
              "embeddings.LayerNorm.weight": (width,), "embeddings.LayerNorm.bias": (width,)}
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        sizes = {**{f"attention.{part}": (width, width) for part in
                    ("self.query", "self.key", "self.value", "output.dense")},
                 "intermediate.dense": (ffn, width), "output.dense": (width, ffn)}
        shapes.update({f"{layer}.{name}.weight": size for name, size in sizes.items()})
        shapes.update({f"{layer}.{name}.bias": size[:1] for name, size in sizes.items()})
        shapes.update({f"{layer}.{part}.LayerNorm.{leaf}": (width,) for part in ("attention.output", "output")
                       for leaf in ("weight", "bias")})
    return families.weights_of(shapes, seed)


def _bytes():
    """Return the 256 characters of byte-level BPE."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]


def write_folder(case, folder, seed=0):
    """Write the folder of a case in CASES."""
    config, poolings, normalized, pooling, transformer, whole = CASES[case]
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")][:2 + normalized]
    (folder / "1_Pooling").mkdir(parents=True)
    save_file(_weights_of(config, seed), folder / "model.safetensors", {"format": "pt"})
    modes = {f"pooling_mode_{word}": name in poolings for name, word in NAMES.items()}
    contents = {
        "config.json": config, "sentence_bert_config.json": transformer, "config_sentence_transformers.json": whole,
        "1_Pooling/config.json": {"word_embedding_dimension": config["hidden_size"], **modes, **pooling},
        "modules.json": [{"idx": number, "name": str(number), "path": path,
                          "type": f"sentence_transformers.models.{kind}"} for number, (path, kind) in enumerate(parts)]}
    if config is BERT:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        contents["tokenizer_config.json"] = {"tokenizer_class": "BertTokenizer", "do_lower_case": False,
                                             "model_max_length": 14}
    else:
        tokens = ["<s>", "<pad>", "</s>", "<unk>", *_bytes(), "<mask>"]
        contents["vocab.json"] = {token: number for number, token in enumerate(tokens)}
        contents["tokenizer_config.json"] = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 20}
        (folder / "merges.txt").write_text("#version: 0.2\n")
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
