"""GPT-2 (Radford et al. 2019): the four published sizes, and two small sizes specific to tfzoo (tiny, mini).

Dropout is 0.1, as in GPT; the released code is for inference only and has none. As in the released code, but unlike in
the paper and in Hugging Face's implementation, the initial weights of the projections before residual connections are
not scaled by 1 / sqrt(2 L).
"""
from tfzoo.models.decoder import Decoder
from tfzoo.models.family import Family
from tfzoo.models.reference import KERAS_NLP_BLOCK, Head, Reference, below, preset_of

SHAPES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "124m": (12, 768, 12), "355m": (24, 1024, 16),
          "774m": (36, 1280, 20), "1558m": (48, 1600, 25)}
SIZES = {f"gpt2_{size}": {"vocab_size": 50257, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                          "ffn_dim": 4 * width, "max_length": 1024}
         for size, (layers, width, heads) in SHAPES.items()}
ORIGINS = {f"gpt2_{size}": ("hf:openai-community/gpt2*", "MIT") for size in ("124m", "355m", "774m", "1558m")}

ARGUMENTS = {"vocab_size": "vocab_size", "num_layers": "n_layer", "hidden_dim": "n_embd", "num_heads": "n_head",
             "max_length": "n_positions", "epsilon": "layer_norm_epsilon", "initializer_range": "initializer_range"}
BLOCK = {"attention_norm": "ln_1", "attention/query": "attn.c_attn", "attention/key": "attn.c_attn",
         "attention/value": "attn.c_attn", "attention/output": "attn.c_proj", "feed_forward_norm": "ln_2",
         "feed_forward/up": "mlp.c_fc", "feed_forward/down": "mlp.c_proj"}
HEAD_DROPOUTS = {"tagging": ("classifier_dropout", 0.1)}
ALIASES = {"hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head",
           "num_hidden_layers": "n_layer"}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
REFERENCE = Reference(
    model_type="gpt2", body="GPT2Model", prefix="transformer.",
    arguments={**ARGUMENTS, "ffn_dim": "n_inner", "activation": "activation_function"},
    aliases=ALIASES,
    defaults={"vocab_size": 50257, "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "n_inner": None,
              "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "initializer_range": 0.02,
              "resid_pdrop": 0.1},
    fixed={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
           "tie_word_embeddings": (True,)},
    names={"embeddings/token": "wte.weight", "embeddings/position": "wpe.weight",
           **below("block_{n}", "h.{n}", BLOCK), "norm": "ln_f"},
    heads={"causal_lm": Head("GPT2LMHeadModel", {}, tied={"lm_head.weight": "transformer.wte.weight"}),
           "classification": Head("GPT2ForSequenceClassification", {"head/dense": "score"}),
           "tagging": Head("GPT2ForTokenClassification", {"head/dense": "classifier"}),
           "question_answering": Head("GPT2ForQuestionAnswering", {"head/dense": "qa_outputs"})},
    dropouts=DROPOUTS, head_dropouts=HEAD_DROPOUTS, transposed=False, known=(r"h\.\d+\.attn\.(bias|masked_bias)",))
PRESET = preset_of("GPT2Backbone", block={path: name.replace("attention_layer/", "attention/")
                                          for path, name in KERAS_NLP_BLOCK.items()},
                   names={"embeddings/token": "token_embedding/embeddings", "norm": "layer_norm",
                          "embeddings/position": "position_embedding/embeddings"})
FAMILY = Family("gpt2", SIZES, Decoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
