"""Test cases for parity: architectures of transformers in odd sizes, with weights and inputs derived from a seed.

This module is imported in environments with torch (make_families.py) and with tfzoo (tests), so it requires only NumPy.
"""
import numpy as np

VOCAB, LENGTH, LAYERS = 61, 21, 3


def sizes_of(seed):
    """Return random sizes for a seed: dict with heads, hidden, ffn, embedding, shared, group and turned.

    `hidden / heads` is not a power of two, and neither is `turned`, the (even) size of a head with rotary positions. In
    decoders with grouped-query attention, `group` query heads use each of the `shared` key/value heads.
    """
    rng = np.random.default_rng(seed)
    heads, width = int(rng.integers(2, 5)), int(rng.choice((5, 7, 9)))
    return {"heads": heads, "hidden": heads * width, "ffn": int(rng.integers(40, 70)),
            "embedding": int(rng.choice((11, 13))), "shared": int(rng.integers(1, 4)), "group": int(rng.integers(2, 4)),
            "turned": int(rng.choice((6, 10, 14)))}


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


def _gpt(sizes):
    return {"vocab_size": VOCAB, "n_layer": LAYERS, "n_embd": sizes["hidden"], "n_head": sizes["heads"],
            "n_positions": LENGTH, "pad_token_id": 0}


def _electra_wide(sizes):
    return {**_bert(sizes), "embedding_size": sizes["hidden"]}


def _qwen2(sizes):
    heads = sizes["shared"] * sizes["group"]
    return {"vocab_size": VOCAB, "num_hidden_layers": LAYERS, "hidden_size": heads * sizes["turned"],
            "num_attention_heads": heads, "num_key_value_heads": sizes["shared"], "intermediate_size": sizes["ffn"],
            "max_position_embeddings": LENGTH, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "pad_token_id": 0,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}


def _qwen2_own(sizes):
    return {**_qwen2(sizes), "tie_word_embeddings": False, "rope_scaling": {
        "rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 10, "beta_fast": 8.0, "beta_slow": 0.5,
        "mscale": 1.5, "mscale_all_dim": 0.7, "truncate": False}}


def _mistral(sizes):
    return {**_qwen2(sizes), "rope_scaling": None, "sliding_window": 7, "head_dim": sizes["turned"] + 4,
            "tie_word_embeddings": False}


def _mistral_whole(sizes):
    return {**_mistral(sizes), "sliding_window": None, "rope_theta": 1000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16, "attention_factor": 1.3}}


def _llama(sizes):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 16}
    return {**_qwen2(sizes), "rope_scaling": scaling, "rope_theta": 50.0, "tie_word_embeddings": False,
            "head_dim": sizes["turned"] + 8}


def _llama_tied(sizes):
    heads = sizes["shared"] * sizes["group"]
    return {**_llama(sizes), "tie_word_embeddings": True, "num_key_value_heads": heads, "head_dim": sizes["turned"],
            "rope_scaling": {"rope_type": "linear", "factor": 2.5}}


def _t5(sizes):
    return {"vocab_size": VOCAB, "num_layers": LAYERS, "d_model": sizes["hidden"], "num_heads": sizes["heads"],
            "d_kv": sizes["embedding"], "d_ff": sizes["ffn"], "pad_token_id": 0, "relative_attention_num_buckets": 12,
            "relative_attention_max_distance": 20, "decoder_start_token_id": 0}


def _t5_gated(sizes):
    return {**_t5(sizes), "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


ENCODER = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
DECODER = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
FAMILIES = {  # name -> (config, architectures)
    "bert": (_bert, [f"Bert{head}" for head in (*ENCODER, "ForPreTraining")]),
    "roberta": (_roberta, [f"Roberta{head}" for head in ENCODER]),
    "distilbert": (_distilbert, [f"DistilBert{head}" for head in ENCODER]),
    "albert": (_albert, [f"Albert{head}" for head in (*ENCODER, "ForPreTraining")]),
    "electra": (_electra, [f"Electra{head}" for head in (*ENCODER, "ForPreTraining")]),
    "gpt2": (_gpt2, ["GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2ForTokenClassification",
                     "GPT2ForQuestionAnswering"]),
    "gpt": (_gpt, ["OpenAIGPTModel", "OpenAIGPTLMHeadModel", "OpenAIGPTForSequenceClassification"]),
    "llama": (_llama, [f"Llama{head}" for head in DECODER]),
    "mistral": (_mistral, [f"Mistral{head}" for head in DECODER]),
    "qwen2": (_qwen2, [f"Qwen2{head}" for head in DECODER]),
    "t5": (_t5, ["T5Model", "T5ForConditionalGeneration"]),
    "t5_1.1": (_t5_gated, ["T5Model", "T5ForConditionalGeneration"]),
    # Variants in other sizes: embeddings as wide as the blocks, tied or untied tables, no grouped queries, no window
    "electra_wide": (_electra_wide, ["ElectraForPreTraining", "ElectraForMaskedLM"]),
    "llama_tied": (_llama_tied, ["LlamaForCausalLM"]),
    "mistral_whole": (_mistral_whole, ["MistralForCausalLM"]),
    "qwen2_own": (_qwen2_own, ["Qwen2ForCausalLM"]),
}
GRADIENTS = {"BertForMaskedLM", "RobertaForMaskedLM", "DistilBertForMaskedLM", "AlbertForMaskedLM",
             "ElectraForPreTraining", "GPT2LMHeadModel", "OpenAIGPTLMHeadModel", "LlamaForCausalLM",
             "MistralForCausalLM", "Qwen2ForCausalLM", "T5ForConditionalGeneration"}
CASES = [(family, architecture) for family, (_, architectures) in FAMILIES.items() for architecture in architectures]


def lines_of(lines):
    """Select the 1,000 lines whose vectors are stored in a golden file from a list of real lines."""
    return lines[::len(lines) // 1000][:1000]


def config_of(family, architecture, seed):
    """Return the config.json of a case: dict."""
    config = FAMILIES[family][0](sizes_of(seed))
    if architecture.endswith(("SequenceClassification", "TokenClassification")):
        config["id2label"] = {str(number): f"label {number}" for number in range(3)}
        config["label2id"] = {label: int(number) for number, label in config["id2label"].items()}
    return config


def weights_of(shapes, seed):
    """Return random weights, large enough for each to matter: dict of name -> float32 array.

    Args:
        shapes: dict of name -> shape.
        seed: int.
    """
    rng, found = np.random.default_rng([seed, 1]), {}
    for name in sorted(shapes):
        # Wide layers with unscaled weights are ill-conditioned: transformers' own float32 and float64 gradients
        # differed by 2e-5.
        size = min(1.0, (20 / shapes[name][-1]) ** 0.5) if len(shapes[name]) > 1 else 1.0
        found[name] = ((rng.random(shapes[name]) - 0.5) * 0.8 * size).astype(np.float32)
        if name.endswith("weight") and len(shapes[name]) == 1:  # the scale of a norm
            found[name] += 1
        if name.endswith(".q.weight"):  # T5 does not scale its scores, so its queries are initialized smaller
            found[name] /= 4  # otherwise, float32 and float64 differ by 2e-5 in transformers itself
    return found


def inputs_of(config, seed):
    """Return three batches, each a dict of int32 [B, T].

    The first two have one row, with a single token and with a short text. The third has rows of the maximum length,
    padded on the left, padded on the right and not padded.
    """
    rng, pad = np.random.default_rng([seed, 2]), config["pad_token_id"]
    found = []
    if "d_kv" in config:
        return _pairs_of(rng, pad)
    for rows, length in ((1, 1), (1, 11), (3, LENGTH)):
        mask = np.ones((rows, length), np.int32)
        if rows > 1:
            mask[0, :5], mask[1, length - 9:] = 0, 0
        tokens = np.where(mask, rng.integers(2, VOCAB, mask.shape), pad).astype(np.int32)
        found.append({"token_ids": tokens, "padding_mask": mask})
        if config.get("type_vocab_size") == 2:
            borders = rng.integers(0, length + 1, (rows, 1))
            found[-1]["segment_ids"] = (np.arange(length)[None] >= borders).astype(np.int32)
    return found


def _pairs_of(rng, pad):
    found = []
    for rows, source, target in ((1, 1, 1), (1, 11, 7), (3, LENGTH, 17)):
        found.append({})
        for side, length in (("encoder", source), ("decoder", target)):
            mask = np.ones((rows, length), np.int32)
            if rows > 1:
                mask[1, length - 9:] = 0
                mask[0, :5] = 0
            tokens = np.where(mask, rng.integers(2, VOCAB, mask.shape), pad).astype(np.int32)
            found[-1].update({f"{side}_token_ids": tokens, f"{side}_padding_mask": mask})
    return found


def mask_of(inputs, side="decoder"):
    """Return the padding mask of inputs; for an encoder-decoder, that of one side."""
    return inputs[f"{side}_padding_mask" if f"{side}_padding_mask" in inputs else "padding_mask"]


def factors_of(shape, mask, seed):
    """Return random weights for logits [B, ...], whose weighted sum is differentiated; they are zero for padding."""
    factors = np.random.default_rng([seed, 3]).random(shape).astype(np.float32) - 0.2  # the sum is not close to 0
    return factors * mask.reshape(*mask.shape, *(1,) * (len(shape) - 2)) if shape[:2] == mask.shape else factors
