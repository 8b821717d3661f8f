"""ELECTRA (Clark et al. 2020, arXiv:2003.10555): a discriminator that detects replaced tokens, and its generator.

Both have BERT's blocks but no pooler. If the embeddings are not as wide as the blocks, they are projected to that
width. The classifier has its own GELU layer in place of BERT's pooler.
"""
from tfzoo.models.encoder import Encoder
from tfzoo.models.families import bert
from tfzoo.models.family import Family
from tfzoo.models.reference import CLASSIFIER, Head, Reference, heads_of, preset_of

# Layers, width, heads, feed-forward width, embedding width (0: as wide as the blocks).
SHAPES = {"tiny": (2, 128, 2, 512, 64), "small": (12, 256, 4, 1024, 128), "base": (12, 768, 12, 3072, 0),
          "large": (24, 1024, 16, 4096, 0), "small_generator": (12, 256, 4, 1024, 128),
          "base_generator": (12, 256, 4, 1024, 768), "large_generator": (24, 256, 4, 1024, 1024)}
SIZES = {f"electra_{size}": {"vocab_size": 30522, "num_layers": layers, "hidden_dim": width, "num_heads": heads,
                             "ffn_dim": ffn, "max_length": 512, "embedding_dim": embeddings, "pooler": False,
                             "pooler_activation": "gelu", "pooler_dropout": True}
         for size, (layers, width, heads, ffn, embeddings) in SHAPES.items()}
ORIGINS = {"electra_": ("hf:google/electra-*", "Apache-2.0")}

REFERENCE = Reference(
    model_type="electra", body="ElectraModel", prefix="electra.",
    arguments={**bert.ARGUMENTS, "embedding_dim": "embedding_size"}, fixed=bert.FIXED,
    defaults={**bert.DEFAULTS, "embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4,
              "intermediate_size": 1024},
    names={**{path: name for path, name in bert.REFERENCE.names.items() if path != "pooler"},
           "projection": "embeddings_project"},
    heads={"masked_lm": Head("ElectraForMaskedLM", {"head/dense": "generator_predictions.dense",
                                                    "head/norm": "generator_predictions.LayerNorm",
                                                    "head/bias": "generator_lm_head.bias"}, pooler=False,
                             tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
                             activation="gelu"),
           "replaced_tokens": Head("ElectraForPreTraining", {
               "head/dense": "discriminator_predictions.dense",
               "head/score": "discriminator_predictions.dense_prediction"}, False),
           **heads_of("Electra", {"pooler": "classifier.dense", "head/dense": "classifier.out_proj"},
                      {"pooler": "sequence_summary.summary", **CLASSIFIER})},
    head_dropouts={**bert.REFERENCE.head_dropouts, "multiple_choice": ("summary_last_dropout", 0.1)},
    projected=False, known=bert.REFERENCE.known)
PRESET = preset_of("ElectraBackbone", names={**bert.PRESET_NAMES, "projection": "embeddings_projection"}, pooler=True,
                   pooler_activation="tanh", activation="gelu_tanh")
FAMILY = Family("electra", SIZES, Encoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
