"""ALBERT (Lan et al. 2019, arXiv:1909.11942), versions 1 and 2: one block shared by all layers, factorized embeddings.

Version 2 was trained without dropout. GELU is Google's tanh approximation. There is a head for sentence-order
prediction, but no data pipeline for it or for n-gram masking (up to three consecutive words).
"""
from tfzoo.models.encoder import Encoder
from tfzoo.models.families import bert
from tfzoo.models.family import Family
from tfzoo.models.reference import Head, Reference, below, heads_of, preset_of

SHAPES = {"tiny": (2, 128, 2), "base": (12, 768, 12), "large": (24, 1024, 16), "xlarge": (24, 2048, 16),
          "xxlarge": (12, 4096, 64)}
SIZES = {f"albert_{size}_{version}": {"vocab_size": 30000, "num_layers": layers, "hidden_dim": width,
                                      "num_heads": heads, "ffn_dim": 4 * width, "max_length": 512,
                                      "embedding_dim": 128, "shared_block": True, "activation": "gelu_tanh",
                                      "dropout": dropout}
         for version, dropout in (("v1", 0.1), ("v2", 0.0)) for size, (layers, width, heads) in SHAPES.items()}
ORIGINS = {"albert_": ("hf:albert/albert-*", "Apache-2.0")}

GROUP = "encoder.albert_layer_groups.0.albert_layers.0"
BLOCK = {"attention/query": "attention.query", "attention/key": "attention.key", "attention/value": "attention.value",
         "attention/output": "attention.dense", "attention_norm": "attention.LayerNorm", "feed_forward/up": "ffn",
         "feed_forward/down": "ffn_output", "feed_forward_norm": "full_layer_layer_norm"}
WORDS_HEAD = {"head/dense": "predictions.dense", "head/norm": "predictions.LayerNorm", "head/bias": "predictions.bias"}
TIED = {"predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias"}
REFERENCE = Reference(
    model_type="albert", body="AlbertModel", prefix="albert.",
    arguments={**bert.ARGUMENTS, "embedding_dim": "embedding_size"},
    defaults={**bert.DEFAULTS, "vocab_size": 30000, "hidden_size": 4096, "num_attention_heads": 64,
              "intermediate_size": 16384, "hidden_act": "gelu_new", "embedding_size": 128, "hidden_dropout_prob": 0.0},
    fixed={**bert.FIXED, "num_hidden_groups": (1,), "inner_group_num": (1,)},
    names={**bert.EMBEDDINGS, "projection": "encoder.embedding_hidden_mapping_in",
           **below("block_{n}", GROUP, BLOCK), "pooler": "pooler"},
    heads={"masked_lm": Head("AlbertForMaskedLM", WORDS_HEAD, pooler=False, tied=TIED),
           "masked_lm:next_sentence": Head("AlbertForPreTraining",
                                           {**WORDS_HEAD, "head/pair": "sop_classifier.classifier"}, pooler=True,
                                           tied=TIED),
           **heads_of("Albert")},
    known=bert.REFERENCE.known,
    head_dropouts={task: ("classifier_dropout_prob", 0.1) for task in ("classification", "tagging", "multiple_choice")})
PRESET = preset_of("AlbertBackbone", layer="group_0_inner_layer_0",
                   names={**bert.PRESET_NAMES, "projection": "embedding_projection"})
FAMILY = Family("albert", SIZES, Encoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
