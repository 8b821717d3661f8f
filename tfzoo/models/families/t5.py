"""T5 1.0 and 1.1 (Raffel et al. 2020, arXiv:1910.10683) and Flan-T5 (Chung et al. 2022, arXiv:2210.11416).

The blocks have RMS norms, unscaled attention scores, and no biases other than the relative position biases. In 1.0, the
output projection is tied to the token table, and the decoder's output is divided by sqrt(D). Version 1.1 has a separate
output table and gated feed-forward layers, and was pretrained without dropout. Flan-T5 comes in the same sizes as 1.1.
Unlike in the reference, there is no dropout between the two projections of a feed-forward layer, because no other
family has it.
"""
from tfzoo.models.encoder_decoder import EncoderDecoder
from tfzoo.models.family import Family
from tfzoo.models.reference import ACTIVATIONS, GATE_ACTIVATIONS, Head, Reference, below, preset_of

COMMON = {"vocab_size": 32128, "max_length": 512, "positions": "relative", "norm": "rms", "norm_first": True,
          "use_bias": False, "scaled": False, "scale_embeddings": False, "scaled_logits": True,
          "initializer_range": 0.0}
# Layers, width, heads, head width, feed-forward width.
ONE = {"tiny": (2, 128, 4, 32, 512), "small": (6, 512, 8, 64, 2048), "base": (12, 768, 12, 64, 3072),
       "large": (24, 1024, 16, 64, 4096), "3b": (24, 1024, 32, 128, 16384), "11b": (24, 1024, 128, 128, 65536)}
ONE_ONE = {"small": (8, 512, 6, 64, 1024), "base": (12, 768, 12, 64, 2048), "large": (24, 1024, 16, 64, 2816),
           "xl": (24, 2048, 32, 64, 5120), "xxl": (24, 4096, 64, 64, 10240)}


def _sizes(prefix, shapes, **own):
    return {f"{prefix}_{name}": {**COMMON, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                                 "head_dim": head, "ffn_dim": ffn, **own}
            for name, (layers, width, heads, head, ffn) in shapes.items()}


GATED = {"activation": "geglu_tanh", "tied": False}
SIZES = {**_sizes("t5", ONE), **_sizes("t5_1.1", ONE_ONE, dropout=0.0, **GATED),
         **_sizes("flan_t5", ONE_ONE, **GATED)}
ORIGINS = {"t5_": ("hf:google-t5/t5-*", "Apache-2.0"), "t5_1.1_": ("hf:google/t5-v1_1-*", "Apache-2.0"),
           "flan_t5_": ("hf:google/flan-t5-*", "Apache-2.0")}


def _block(stack, feed_forward):
    layers = {"attention_norm": "layer.0.layer_norm", "attention/query": "layer.0.SelfAttention.q",
              "attention/key": "layer.0.SelfAttention.k", "attention/value": "layer.0.SelfAttention.v",
              "attention/output": "layer.0.SelfAttention.o",
              "feed_forward_norm": f"layer.{feed_forward}.layer_norm",
              "feed_forward/down": f"layer.{feed_forward}.DenseReluDense.wo"}
    if stack == "decoder":
        layers.update({"cross_attention_norm": "layer.1.layer_norm",
                       "cross_attention/query": "layer.1.EncDecAttention.q",
                       "cross_attention/key": "layer.1.EncDecAttention.k",
                       "cross_attention/value": "layer.1.EncDecAttention.v",
                       "cross_attention/output": "layer.1.EncDecAttention.o"})
    return below(f"{stack}_block_{{n}}", f"{stack}.block.{{n}}", layers)


def _gated(stack, feed_forward):
    place = f"layer.{feed_forward}.DenseReluDense"
    return below(f"{stack}_block_{{n}}", f"{stack}.block.{{n}}",
                 {"feed_forward/gate": f"{place}.wi_0", "feed_forward/up": (f"{place}.wi_1", f"{place}.wi")})


def _relative(stack):
    return f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


REFERENCE = Reference(
    model_type="t5", body="T5Model", prefix="",
    arguments={"vocab_size": "vocab_size", "num_layers": "num_layers", "hidden_dim": "d_model",
               "num_heads": "num_heads", "head_dim": "d_kv", "ffn_dim": "d_ff", "activation": "feed_forward_proj",
               "epsilon": "layer_norm_epsilon", "tied": "tie_word_embeddings",
               "buckets": "relative_attention_num_buckets", "max_distance": "relative_attention_max_distance"},
    activations={**ACTIVATIONS, **{f"gated-{theirs}": ours for theirs, ours in GATE_ACTIVATIONS.items()},
                 "gated-gelu": "geglu_tanh"},  # transformers' gated "gelu" is the tanh approximation
    aliases={"hidden_size": "d_model", "num_attention_heads": "num_heads", "head_dim": "d_kv"},
    defaults={"vocab_size": 32128, "num_layers": 6, "d_model": 512, "num_heads": 8, "d_kv": 64, "d_ff": 2048,
              "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "dropout_rate": 0.1,
              "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu", "tie_word_embeddings": True},
    names={"embeddings/token": "shared.weight", "encoder_relative/table": _relative("encoder"),
           "decoder_relative/table": _relative("decoder"), **_block("encoder", 1), **_block("decoder", 2),
           **_gated("encoder", 1), **_gated("decoder", 2), "encoder_norm": "encoder.final_layer_norm",
           "decoder_norm": "decoder.final_layer_norm"},
    heads={"seq2seq": Head("T5ForConditionalGeneration", {"head/table": "lm_head.weight"}, tied={
        "lm_head.weight": "shared.weight", "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight"})},
    fixed={"decoder_start_token_id": (0,), "is_encoder_decoder": (True,)},
    equal=(("num_decoder_layers", "num_layers"), ("num_hidden_layers", "num_layers")), dropouts=("dropout_rate",),
    known=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",))


def _preset(stack, last):
    parts = "query", "key", "value", "output"
    layers = {**{f"attention/{part}": f"self_attention/{part}_projector" for part in parts},
              "attention_norm": "t5_layer_norm", "feed_forward/gate": "input_projector",
              "feed_forward/down": "output_projector", "feed_forward_norm": f"t5_layer_norm:{last}"}
    if stack == "decoder":
        layers.update({f"cross_{path}": name.replace("self_", "cross_") for path, name in layers.items()
                       if path.startswith("attention/")}, cross_attention_norm="t5_layer_norm:2")
    names = {f"{stack}_block_{{n}}/{path}": f"transformer_{stack}_layer_{{n}}/{name}" for path, name in layers.items()}
    up = f"transformer_{stack}_layer_{{n}}/gate_projector", f"transformer_{stack}_layer_{{n}}/input_projector"
    return {**names, f"{stack}_block_{{n}}/feed_forward/up": up}


PRESET = preset_of("T5Backbone", block={}, names={
    "embeddings/token": "token_embedding/embeddings", "head/table": "token_embedding/reverse_embeddings",
    "encoder_relative/table": "self_attention/embeddings", "decoder_relative/table": "self_attention/embeddings:2",
    "encoder_norm": "encoder_output_layer_norm", "decoder_norm": "decoder_output_layer_norm",
    **_preset("encoder", 2), **_preset("decoder", 3)})
FAMILY = Family("t5", SIZES, EncoderDecoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
