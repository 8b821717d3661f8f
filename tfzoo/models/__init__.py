"""Model bodies built from tfzoo.layers, by family and size."""
from tfzoo.models.body import Body, DictModel, Traits
from tfzoo.models.decoder import Decoder
from tfzoo.models.encoder import Encoder
from tfzoo.models.encoder_decoder import EncoderDecoder
from tfzoo.models.family import Family
from tfzoo.models.registry import FAMILIES, build_body, config_of, count_parameters, family_of, list_models

__all__ = ["FAMILIES", "Body", "Decoder", "DictModel", "Encoder", "EncoderDecoder", "Family", "Traits", "build_body",
           "config_of", "count_parameters", "family_of", "list_models"]
