"""BERT (Devlin et al. 2018, arXiv:1810.04805) and Google's 24 smaller models (Turc et al. 2019, arXiv:1908.08962).

GELU is exact by default, as in Hugging Face; Google's code uses the tanh approximation (`activation="gelu_tanh"`).
"""
from tfzoo.models.encoder import Encoder
from tfzoo.models.family import Family
from tfzoo.models.reference import Head, Reference, below, heads_of, preset_of

WORDS = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768),
         "large": (24, 1024)}
SHAPES = {**WORDS, **{f"l{layers}_h{width}": (layers, width)
                      for layers in (2, 4, 6, 8, 10, 12) for width in (128, 256, 512, 768)}}
SIZES = {f"bert_{size}": {"vocab_size": 30522, "num_layers": layers, "hidden_dim": width, "num_heads": width // 64,
                          "ffn_dim": 4 * width, "max_length": 512}
         for size, (layers, width) in SHAPES.items()}
ORIGINS = {**dict.fromkeys(("bert_", "bert_tiny"), ("hf:google/bert_uncased_L-*", "Apache-2.0")),
           "bert_base": ("hf:google-bert/bert-base-*", "Apache-2.0"),
           "bert_large": ("hf:google-bert/bert-large-*", "Apache-2.0")}

ARGUMENTS = {"vocab_size": "vocab_size", "num_layers": "num_hidden_layers", "hidden_dim": "hidden_size",
             "num_heads": "num_attention_heads", "ffn_dim": "intermediate_size",
             "max_length": "max_position_embeddings", "num_segments": "type_vocab_size", "activation": "hidden_act",
             "epsilon": "layer_norm_eps", "initializer_range": "initializer_range"}
DEFAULTS = {"vocab_size": 30522, "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12,
            "intermediate_size": 3072, "max_position_embeddings": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
            "initializer_range": 0.02, "type_vocab_size": 2, "hidden_dropout_prob": 0.1}
FIXED = {"position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,),
         "tie_word_embeddings": (True,)}
EMBEDDINGS = {"embeddings/token": "embeddings.word_embeddings.weight",
              "embeddings/position": "embeddings.position_embeddings.weight",
              "embeddings/segment": "embeddings.token_type_embeddings.weight",
              "embeddings/norm": "embeddings.LayerNorm"}
BLOCK = {"attention/query": "attention.self.query", "attention/key": "attention.self.key",
         "attention/value": "attention.self.value", "attention/output": "attention.output.dense",
         "attention_norm": "attention.output.LayerNorm", "feed_forward/up": "intermediate.dense",
         "feed_forward/down": "output.dense", "feed_forward_norm": "output.LayerNorm"}
WORDS_HEAD = {"head/dense": "cls.predictions.transform.dense", "head/norm": "cls.predictions.transform.LayerNorm",
              "head/bias": "cls.predictions.bias"}
TIED = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias"}

REFERENCE = Reference(
    model_type="bert", body="BertModel", prefix="bert.", arguments=ARGUMENTS, defaults=DEFAULTS, fixed=FIXED,
    names={**EMBEDDINGS, **below("block_{n}", "encoder.layer.{n}", BLOCK), "pooler": "pooler.dense"},
    heads={"masked_lm": Head("BertForMaskedLM", WORDS_HEAD, pooler=False, tied=TIED),
           "masked_lm:next_sentence": Head("BertForPreTraining", {**WORDS_HEAD, "head/pair": "cls.seq_relationship"},
                                           pooler=True, tied=TIED),
           **heads_of("Bert")},
    known=(r"embeddings\.position_ids",))
PRESET_NAMES = {"embeddings/token": "token_embedding/embeddings",
                "embeddings/position": "position_embedding/embeddings",
                "embeddings/segment": "segment_embedding/embeddings",
                "embeddings/norm": "embeddings_layer_norm", "pooler": "pooled_dense"}
PRESET = preset_of("BertBackbone", names=PRESET_NAMES, activation="gelu_tanh")
FAMILY = Family("bert", SIZES, Encoder, reference=REFERENCE, preset=PRESET, origins=ORIGINS)
