"""Llama (Touvron et al. 2023, arXiv:2302.13971, 2307.09288; Grattafiori et al. 2024, arXiv:2407.21783) and SmolLM.

The blocks have rotary position embeddings, RMS norms, gated feed-forward layers, shared key/value heads (grouped-query
attention) and no biases.
"""
from tfzoo.models.decoder import Decoder
from tfzoo.models.family import Family
from tfzoo.models.reference import GATE_ACTIVATIONS, KERAS_NLP_BLOCK, Head, Reference, below, preset_of

COMMON = {"activation": "swiglu", "norm": "rms", "positions": "rotary", "use_bias": False, "dropout": 0.0,
          "epsilon": 1e-5}
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}


def sizes_of(prefix, shapes, **common):
    """Return the SIZES for a Llama-like family.

    Args:
        prefix: str, prefix for each name.
        shapes: dict of name -> (layers, width, heads, key/value heads (0: the same as heads), feed-forward width,
            dict of additional arguments for this size).
        common: arguments that all sizes share.

    Returns:
        dict of name -> dict of the body's arguments.
    """
    return {f"{prefix}_{name}": {**COMMON, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                                 "num_kv_heads": shared, "ffn_dim": ffn, **common, **own}
            for name, (layers, width, heads, shared, ffn, own) in shapes.items()}


THREE = {"vocab_size": 128256, "rope_theta": 500000.0}
LONG = {**THREE, "max_length": 131072, "rope_scaling": SCALING}
SMALL = {**LONG, "rope_scaling": {**SCALING, "factor": 32.0}, "tied": True}
SIZES = {
    **sizes_of("llama", {"tiny": (2, 128, 4, 2, 352, {"vocab_size": 32000})}, max_length=2048, tied=True),
    **sizes_of("llama2", {"7b": (32, 4096, 32, 0, 11008, {}), "13b": (40, 5120, 40, 0, 13824, {}),
                          "70b": (80, 8192, 64, 8, 28672, {})}, vocab_size=32000, max_length=4096, tied=False),
    **sizes_of("llama3", {"8b": (32, 4096, 32, 8, 14336, {}), "70b": (80, 8192, 64, 8, 28672, {})}, max_length=8192,
               tied=False, **THREE),
    **sizes_of("llama3.1", {"8b": (32, 4096, 32, 8, 14336, {}), "70b": (80, 8192, 64, 8, 28672, {}),
                            "405b": (126, 16384, 128, 8, 53248, {})}, tied=False, **LONG),
    **sizes_of("llama3.2", {"1b": (16, 2048, 32, 8, 8192, {}), "3b": (28, 3072, 24, 8, 8192, {})}, **SMALL),
    **sizes_of("smollm", {"135m": (30, 576, 9, 3, 1536, {}), "360m": (32, 960, 15, 5, 2560, {}),
                          "1.7b": (24, 2048, 32, 0, 8192, {})}, vocab_size=49152, max_length=2048, tied=True),
    **sizes_of("smollm2", {"135m": (30, 576, 9, 3, 1536, {}), "360m": (32, 960, 15, 5, 2560, {}),
                           "1.7b": (24, 2048, 32, 0, 8192, {"rope_theta": 130000.0})}, vocab_size=49152,
               max_length=8192, tied=True, rope_theta=100000.0)}
ORIGINS = {"llama2_": ("hf:meta-llama/Llama-2-*", "Llama 2 Community License"),
           "llama3_": ("hf:meta-llama/Meta-Llama-3-*", "Llama 3 Community License"),
           "llama3.1_": ("hf:meta-llama/Llama-3.1-*", "Llama 3.1 Community License"),
           "llama3.2_": ("hf:meta-llama/Llama-3.2-*", "Llama 3.2 Community License"),
           "smollm_": ("hf:HuggingFaceTB/SmolLM-*", "Apache-2.0"),
           "smollm2_": ("hf:HuggingFaceTB/SmolLM2-*", "Apache-2.0")}

BLOCK = {"attention_norm": "input_layernorm", "attention/query": "self_attn.q_proj",
         "attention/key": "self_attn.k_proj", "attention/value": "self_attn.v_proj",
         "attention/output": "self_attn.o_proj",
         "feed_forward_norm": "post_attention_layernorm", "feed_forward/gate": "mlp.gate_proj",
         "feed_forward/up": "mlp.up_proj", "feed_forward/down": "mlp.down_proj"}


def reference_of(name, model_type, answers="", **own):
    """Return the Reference for a Llama-like family.

    Args:
        name: str, prefix of transformers' class names.
        model_type: str, the value of `model_type` in config.json.
        answers: str, the prefix of the question-answering Head; "" to use the family's prefix.
        own: fields of the Reference that differ from Llama's.
    """
    settings = {
        "arguments": {"vocab_size": "vocab_size", "num_layers": "num_hidden_layers", "hidden_dim": "hidden_size",
                      "num_heads": "num_attention_heads", "num_kv_heads": "num_key_value_heads",
                      "head_dim": "head_dim", "ffn_dim": "intermediate_size", "max_length": "max_position_embeddings",
                      "activation": "hidden_act", "epsilon": "rms_norm_eps", "initializer_range": "initializer_range",
                      "rope_theta": "rope_theta", "rope_scaling": "rope_scaling", "tied": "tie_word_embeddings"},
        "defaults": {"vocab_size": 32000, "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
                     "intermediate_size": 11008, "max_position_embeddings": 2048, "hidden_act": "silu",
                     "rms_norm_eps": 1e-6, "initializer_range": 0.02, "rope_theta": 10000.0,
                     "tie_word_embeddings": False, "attention_dropout": 0.0},
        "fixed": {"attention_bias": (False,), "mlp_bias": (False,), "pretraining_tp": (1,)}, **own}
    return Reference(
        model_type=model_type, body=f"{name}Model", prefix="model.", activations=GATE_ACTIVATIONS,
        names={"embeddings/token": "embed_tokens.weight", **below("block_{n}", "layers.{n}", BLOCK), "norm": "norm"},
        heads={"causal_lm": Head(f"{name}ForCausalLM", {"head/table": "lm_head.weight"},
                                 tied={"lm_head.weight": "model.embed_tokens.weight"}),
               "classification": Head(f"{name}ForSequenceClassification", {"head/dense": "score"}),
               "tagging": Head(f"{name}ForTokenClassification", {"head/dense": "score"}),
               "question_answering": Head(f"{name}ForQuestionAnswering", {"head/dense": "qa_outputs"},
                                          prefix=answers or None)},
        dropouts=("attention_dropout",), head_dropouts={"tagging": ("classifier_dropout", 0.1)},
        known=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",), **settings)


REFERENCE = reference_of("Llama", "llama", "transformer.")
PRESET_BLOCK = {**{path: name.replace("attention_layer/", "attention/").replace("layer_norm", "layernorm")
                   for path, name in KERAS_NLP_BLOCK.items()}, "feed_forward/gate": "feedforward_gate_dense"}
PRESET_NAMES = {"embeddings/token": "token_embedding/embeddings", "norm": "sequence_output_layernorm",
                "head/table": "token_embedding/reverse_embeddings"}
PRESET = preset_of("LlamaBackbone", "Llama3Backbone", block=PRESET_BLOCK, names=PRESET_NAMES)
FAMILY = Family("llama", SIZES, Decoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
