"""RoBERTa (Liu et al. 2019, arXiv:1907.11692): BERT without next-sentence prediction.

Positions skip padding: in the position table, tokens start at row 2, and all padding uses row 1. There is only one
segment, as in Hugging Face's implementation.
"""
from tfzoo.models.encoder import Encoder
from tfzoo.models.families import bert
from tfzoo.models.family import Family
from tfzoo.models.reference import Head, Reference, heads_of, preset_of

SIZES = {f"roberta_{size}": {"vocab_size": 50265, "num_layers": layers, "hidden_dim": width, "num_heads": width // 64,
                             "ffn_dim": 4 * width, "max_length": 512, "num_segments": 1, "epsilon": 1e-5,
                             "position_offset": 2, "pooler_dropout": True}
         for size, (layers, width) in {"tiny": (2, 128), "base": (12, 768), "large": (24, 1024)}.items()}
ORIGINS = {"roberta_": ("hf:FacebookAI/roberta-*", "MIT")}

TIED = {"lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"}
REFERENCE = Reference(
    model_type="roberta", body="RobertaModel", prefix="roberta.", arguments=bert.ARGUMENTS,
    defaults={**bert.DEFAULTS, "vocab_size": 50265}, fixed={**bert.FIXED, "pad_token_id": (1,)},
    names=bert.REFERENCE.names,
    heads={"masked_lm": Head("RobertaForMaskedLM", {"head/dense": "lm_head.dense", "head/norm": "lm_head.layer_norm",
                                                    "head/bias": "lm_head.bias"}, pooler=False, tied=TIED,
                             activation="gelu"),
           **heads_of("Roberta", {"pooler": "classifier.dense", "head/dense": "classifier.out_proj"})},
    head_dropouts={**bert.REFERENCE.head_dropouts, "multiple_choice": ("hidden_dropout_prob", None)},
    known=bert.REFERENCE.known)
# keras-nlp's model has no segment table, and its position table lacks the two rows before the first position.
PRESET = preset_of("RobertaBackbone", position_offset=0, num_segments=0, pooler=False, names={
    "embeddings/token": "embeddings/token_embedding/embeddings", "embeddings/norm": "embeddings_layer_norm",
    "embeddings/position": "embeddings/position_embedding/embeddings"})
FAMILY = Family("roberta", SIZES, Encoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
