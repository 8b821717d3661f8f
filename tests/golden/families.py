"""The cases of parity: architectures of transformers in odd sizes, with weights and inputs that follow from a seed.

Imported where torch is (make_families.py) and where tfzoo is (tests), so it needs NumPy alone.
"""
import numpy as np

VOCAB, LENGTH, LAYERS = 61, 37, 3


def sizes_of(seed):
    """Return dict of heads, hidden, ffn, embedding and pad by a seed: head widths that no power of two divides."""
    rng = np.random.default_rng(seed)
    heads, width = int(rng.integers(2, 5)), int(rng.choice((5, 7, 9)))
    return {"heads": heads, "hidden": heads * width, "ffn": int(rng.integers(40, 70)),
            "embedding": int(rng.choice((11, 13)))}


def _bert(sizes):
    return {"vocab_size": VOCAB, "num_hidden_layers": LAYERS, "hidden_size": sizes["hidden"],
            "num_attention_heads": sizes["heads"], "intermediate_size": sizes["ffn"],
            "max_position_embeddings": LENGTH, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0}


def _roberta(sizes):
    return {**_bert(sizes), "max_position_embeddings": LENGTH + 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
            "pad_token_id": 1}


def _distilbert(sizes):
    return {"vocab_size": VOCAB, "n_layers": LAYERS, "dim": sizes["hidden"], "n_heads": sizes["heads"],
            "hidden_dim": sizes["ffn"], "max_position_embeddings": LENGTH, "pad_token_id": 0}


def _electra(sizes):
    return {**_bert(sizes), "embedding_size": sizes["embedding"]}


def _albert(sizes):
    return {**_bert(sizes), "embedding_size": sizes["embedding"], "hidden_act": "gelu_new"}


def _gpt2(sizes):
    return {"vocab_size": VOCAB, "n_layer": LAYERS, "n_embd": sizes["hidden"], "n_head": sizes["heads"],
            "n_inner": sizes["ffn"], "n_positions": LENGTH, "pad_token_id": 0}


ENCODER = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
FAMILIES = {  # name -> (config, architectures)
    "bert": (_bert, [f"Bert{head}" for head in (*ENCODER, "ForPreTraining")]),
    "roberta": (_roberta, [f"Roberta{head}" for head in ENCODER]),
    "distilbert": (_distilbert, [f"DistilBert{head}" for head in ENCODER]),
    "albert": (_albert, [f"Albert{head}" for head in (*ENCODER, "ForPreTraining")]),
    "electra": (_electra, [f"Electra{head}" for head in (*ENCODER, "ForPreTraining")]),
    "gpt2": (_gpt2, ["GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2ForTokenClassification",
                     "GPT2ForQuestionAnswering"]),
}
GRADIENTS = {"BertForMaskedLM", "AlbertForMaskedLM", "GPT2LMHeadModel"}
CASES = [(family, architecture) for family, (_, architectures) in FAMILIES.items() for architecture in architectures]


def config_of(family, architecture, seed):
    """Return the config.json of a case: dict."""
    config = FAMILIES[family][0](sizes_of(seed))
    if architecture.endswith(("SequenceClassification", "TokenClassification")):
        config["id2label"] = {str(number): f"label {number}" for number in range(3)}
        config["label2id"] = {label: int(number) for number, label in config["id2label"].items()}
    return config


def weights_of(shapes, seed):
    """Return dict of name -> float32 array for a dict of name -> shape, of a size that makes each matter."""
    rng, found = np.random.default_rng([seed, 1]), {}
    for name in sorted(shapes):
        found[name] = ((rng.random(shapes[name]) - 0.5) * 0.8).astype(np.float32)
        if name.endswith("weight") and len(shapes[name]) == 1:  # a norm's
            found[name] += 1
    return found


def inputs_of(config, seed):
    """Return a list of dicts of int32 [B, T]: one token alone; the longest texts, padded left, right and not at all."""
    rng, pad = np.random.default_rng([seed, 2]), config["pad_token_id"]
    found = []
    for rows, length in ((1, 1), (3, LENGTH)):
        mask = np.ones((rows, length), np.int32)
        if rows > 1:
            mask[0, :5], mask[1, length - 9:] = 0, 0
        tokens = np.where(mask, rng.integers(2, VOCAB, mask.shape), pad).astype(np.int32)
        found.append({"token_ids": tokens, "padding_mask": mask})
        if config.get("type_vocab_size") == 2:
            borders = rng.integers(0, length + 1, (rows, 1))
            found[-1]["segment_ids"] = (np.arange(length)[None] >= borders).astype(np.int32)
    return found


def factors_of(shape, mask, seed):
    """Return what logits [B, ...] are multiplied with before their sum is differentiated; padding counts nothing."""
    factors = np.random.default_rng([seed, 3]).random(shape).astype(np.float32) - 0.5
    return factors * mask.reshape(*mask.shape, *(1,) * (len(shape) - 2)) if shape[:2] == mask.shape else factors
