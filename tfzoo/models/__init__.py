"""Models built of the zoo's layers, by family and size."""
from tfzoo.models.decoder import Decoder
from tfzoo.models.encoder import Encoder
from tfzoo.models.encoder_decoder import EncoderDecoder
from tfzoo.models.registry import (FAMILIES, build_body, config_of, count_parameters, family_of, head_dropout,
                                   list_models, name_of, origin_of)

__all__ = ["FAMILIES", "Decoder", "Encoder", "EncoderDecoder", "build_body", "config_of", "count_parameters",
           "family_of", "head_dropout", "list_models", "name_of", "origin_of"]
