"""GPT (Radford et al. 2018): post-norm blocks, learned positions and the tanh approximation of GELU."""
from tfzoo.models.decoder import Decoder
from tfzoo.models.families.gpt2 import ALIASES, DROPOUTS
from tfzoo.models.family import Family
from tfzoo.models.reference import Head, Reference, below

SIZES = {f"gpt_{size}": {"vocab_size": 40478, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                         "ffn_dim": 4 * width, "max_length": 512, "norm_first": False, "position_range": 0.02}
         for size, (layers, width, heads) in {"tiny": (2, 128, 2), "117m": (12, 768, 12)}.items()}
ORIGINS = {"gpt_": ("hf:openai-community/openai-gpt", "MIT")}

BLOCK = {"attention/query": "attn.c_attn", "attention/key": "attn.c_attn", "attention/value": "attn.c_attn",
         "attention/output": "attn.c_proj", "attention_norm": "ln_1", "feed_forward/up": "mlp.c_fc",
         "feed_forward/down": "mlp.c_proj", "feed_forward_norm": "ln_2"}
REFERENCE = Reference(
    model_type="openai-gpt", body="OpenAIGPTModel", prefix="transformer.",
    arguments={"vocab_size": "vocab_size", "num_layers": "n_layer", "hidden_dim": "n_embd", "num_heads": "n_head",
               "max_length": "n_positions", "epsilon": "layer_norm_epsilon", "initializer_range": "initializer_range",
               "activation": "afn"},
    activations={"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"},  # their "gelu" is the tanh form
    aliases=ALIASES,
    defaults={"vocab_size": 40478, "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 512, "afn": "gelu",
              "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "resid_pdrop": 0.1},
    names={"embeddings/token": "tokens_embed.weight", "embeddings/position": "positions_embed.weight",
           **below("block_{n}", "h.{n}", BLOCK)},
    heads={"causal_lm": Head("OpenAIGPTLMHeadModel", {}, tied={"lm_head.weight": "transformer.tokens_embed.weight"}),
           "classification": Head("OpenAIGPTForSequenceClassification", {"head/dense": "score"})},
    dropouts=DROPOUTS, head_dropouts={}, transposed=False, known=(r"h\.\d+\.attn\.bias", r"position_ids"))
FAMILY = Family("gpt", SIZES, Decoder, reference=REFERENCE, origins=ORIGINS)
