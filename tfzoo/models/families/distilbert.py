"""DistilBERT (Sanh et al. 2019, arXiv:1910.01108): BERT with half the layers and no segments or pooler.

The classifier has its own ReLU layer in place of BERT's pooler. As in BERT, dropout is also applied to the attention
output; the reference applies it only to the output of the feed-forward layer.
"""
from tfzoo.models.encoder import Encoder
from tfzoo.models.family import Family
from tfzoo.models.reference import CLASSIFIER, Head, Reference, below, heads_of, preset_of

SIZES = {f"distilbert_{size}": {"vocab_size": 30522, "num_layers": layers, "hidden_dim": width,
                                "num_heads": width // 64, "ffn_dim": 4 * width, "max_length": 512, "num_segments": 0,
                                "pooler": False, "pooler_activation": "relu"}
         for size, (layers, width) in {"tiny": (2, 128), "base": (6, 768)}.items()}
ORIGINS = {"distilbert_": ("hf:distilbert/distilbert-base-*", "Apache-2.0")}

BLOCK = {"attention/query": "attention.q_lin", "attention/key": "attention.k_lin", "attention/value": "attention.v_lin",
         "attention/output": "attention.out_lin", "attention_norm": "sa_layer_norm", "feed_forward/up": "ffn.lin1",
         "feed_forward/down": "ffn.lin2", "feed_forward_norm": "output_layer_norm"}
REFERENCE = Reference(
    model_type="distilbert", body="DistilBertModel", prefix="distilbert.",
    arguments={"vocab_size": "vocab_size", "num_layers": "n_layers", "hidden_dim": "dim", "num_heads": "n_heads",
               "ffn_dim": "hidden_dim", "max_length": "max_position_embeddings", "activation": "activation",
               "initializer_range": "initializer_range"},
    defaults={"vocab_size": 30522, "n_layers": 6, "dim": 768, "n_heads": 12, "hidden_dim": 3072,
              "max_position_embeddings": 512, "activation": "gelu", "initializer_range": 0.02, "dropout": 0.1},
    aliases={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
    fixed={"sinusoidal_pos_embds": (False, True), "tie_word_embeddings": (True,)},  # either way, the table is stored
    names={"embeddings/token": "embeddings.word_embeddings.weight",
           "embeddings/position": "embeddings.position_embeddings.weight", "embeddings/norm": "embeddings.LayerNorm",
           **below("block_{n}", "transformer.layer.{n}", BLOCK)},
    heads={"masked_lm": Head("DistilBertForMaskedLM",
                             {"head/dense": "vocab_transform", "head/norm": "vocab_layer_norm",
                              "head/bias": "vocab_projector.bias"}, pooler=False,
                             tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}),
           **heads_of("DistilBert", *[{"pooler": "pre_classifier", **CLASSIFIER}] * 2)},
    dropouts=("dropout", "attention_dropout"),
    head_dropouts={"classification": ("seq_classif_dropout", 0.2), "tagging": ("dropout", None),
                   "multiple_choice": ("seq_classif_dropout", 0.2),
                   "question_answering": ("qa_dropout", 0.1)},
    known=(r"embeddings\.position_ids",))
PRESET = preset_of("DistilBertBackbone", names={
    "embeddings/token": "token_and_position_embedding/token_embedding/embeddings",
    "embeddings/position": "token_and_position_embedding/position_embedding/embeddings",
    "embeddings/norm": "embeddings_layer_norm"})
FAMILY = Family("distilbert", SIZES, Encoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
