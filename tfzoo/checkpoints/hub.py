"""Model folders on the Hugging Face hub, as `hf:ID`, through huggingface_hub; cached files need no network."""
import pathlib
import re

from tfzoo import files
from tfzoo.checkpoints.huggingface_config import GENERATION
from tfzoo.checkpoints.sentence_transformers import MODULES, SETTINGS
from tfzoo.checkpoints.tensors import INDEX
from tfzoo.errors import ConfigError, reason_of
from tfzoo.text.load import VOCABULARIES

PREFIX = "hf:"
FILES = ("config.json", GENERATION, "model*.safetensors", INDEX, *sorted(VOCABULARIES), MODULES, SETTINGS,
         "*_Pooling/config.json", "sentence_*_config.json")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


def download(source):
    """Return the local folder of a model on the hub; download it if it is not cached.

    Args:
        source: str, "hf:ID" or "hf:ID@REVISION".

    Returns:
        pathlib.Path.

    Raises:
        ConfigError: a malformed ID. FileNotFoundError: no such model, or no network. OSError: the hub's cache cannot
            be written.
    """
    name = source[len(PREFIX):]
    if not NAME.fullmatch(name):
        raise ConfigError(f"{source[:80]!r} names no model: allowed are hf:OWNER/NAME and hf:NAME, optionally "
                          "with @REVISION")
    from huggingface_hub import snapshot_download
    identity, _, revision = name.partition("@")
    try:
        return pathlib.Path(snapshot_download(identity, revision=revision or None, allow_patterns=list(FILES)))
    except Exception as error:  # huggingface_hub's own errors, its network library's, and OSError
        if failed := files.writing_error(error, f"the cache for {source}, see HF_HOME"):
            raise failed from None
        raise FileNotFoundError(f"{source} cannot be downloaded ({reason_of(error)}): check the name and the network, "
                                "or give a local folder") from None
