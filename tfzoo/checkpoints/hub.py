"""Download model folders (`hf:ID`) from the Hugging Face Hub with huggingface_hub; cached models also load offline."""
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
    """Return the local folder for a model on the Hub, downloading the model if it is not cached.

    Args:
        source: str, "hf:ID" or "hf:ID@REVISION".

    Returns:
        pathlib.Path.

    Raises:
        ConfigError: if the ID is malformed.
        FileNotFoundError: if the model does not exist, or the network is unavailable.
        OSError: if the Hub's cache cannot be written.
    """
    name = source[len(PREFIX):]
    if not NAME.fullmatch(name):
        raise ConfigError(f"{source[:80]!r} is not a model ID: expected hf:OWNER/NAME or hf:NAME, optionally followed "
                          "by @REVISION")
    from huggingface_hub import snapshot_download
    identity, _, revision = name.partition("@")
    try:
        return pathlib.Path(snapshot_download(identity, revision=revision or None, allow_patterns=list(FILES)))
    except Exception as error:  # from huggingface_hub or its network library, or OSError
        if failed := files.writing_error(error, f"the cache for {source}, set by HF_HOME"):
            raise failed from None
        raise FileNotFoundError(f"{source} cannot be downloaded ({reason_of(error)}): check the name and the network, "
                                "or pass a local folder") from None
