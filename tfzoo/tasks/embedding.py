"""Embedding settings, and pooling of hidden states as in sentence-transformers (Reimers & Gurevych 2019,
arXiv:1908.10084).

The settings are a dict with the keys of PLAIN; `checkpoints.sentence_transformers` reads and writes them.
"""
import tensorflow as tf

from tfzoo.errors import DataError, shown

POOLINGS = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens",  # in the order of their columns
            "mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean": "weightedmean_tokens",
            "lasttoken": "lasttoken"}
NAMES = {"mean": "mean", "first": "cls", "max": "max"}  # tfzoo's names -> names in sentence-transformers
PLAIN = {"pooling": ["mean"], "include_prompt": True, "normalize": False, "strip": False, "lowercase": False,
         "prompts": {}, "default_prompt": None, "similarity": None, "problem": None}
SPACE = r"[\pZ\t-\r\x1c-\x1f\x{85}]"  # what str.strip removes
OF_STRINGS = {"default_prompt", "similarity", "problem"}  # str or None


def pooled_by(name):
    """Return the embedding settings for a pooling in tfzoo's words, "mean", "first" or "max": dict."""
    return {**PLAIN, "pooling": [NAMES[name]]}


def checked(how, where):
    """Check embedding settings and return them.

    Args:
        how: object; valid if it is a dict with the keys and types of PLAIN.
        where: str or path of the file, for error messages.

    Raises:
        DataError: if the settings are damaged.
    """
    right = isinstance(how, dict) and how.keys() == PLAIN.keys() and all(
        value is None or isinstance(value, str) if key in OF_STRINGS else isinstance(value, type(PLAIN[key]))
        for key, value in how.items())
    if not right or not all(isinstance(text, str) for text in (*how["prompts"].values(), *how["pooling"])) or (
            how["problem"] is None and not set(how["pooling"]) <= set(POOLINGS)):
        raise DataError(f"{where}: the embedding settings are damaged ({shown(how)}): download or copy it again")
    return how


def prepared(texts, how, prompt=""):
    """Return the texts to encode: prepend the prompt, then strip and lowercase as set in `how`: list of str."""
    texts = [prompt + text for text in texts]
    texts = [text.strip() for text in texts] if how["strip"] else texts
    return [text.lower() for text in texts] if how["lowercase"] else texts


def prepared_in_graph(texts, how, prompt=""):
    """Return what `prepared` returns, for tf.string [B], in a graph."""
    texts = tf.strings.join([prompt, texts]) if prompt else texts
    texts = tf.strings.regex_replace(texts, f"^{SPACE}+|{SPACE}+$", "") if how["strip"] else texts
    return tf.strings.lower(texts, encoding="utf-8") if how["lowercase"] else texts


def pool(sequence, real, how, skipped=0):
    """Pool the hidden states of each text into a vector.

    Args:
        sequence: float [B, T, D], the last hidden states.
        real: int32 [B, T], 1 for tokens and 0 for padding.
        how: dict with the keys of PLAIN.
        skipped: int, the number of prompt tokens at the start, which all poolings except cls ignore.

    Returns:
        float32 [B, N x D], where N is the number of poolings.
    """
    sequence, real = tf.cast(sequence, tf.float32), tf.cast(real, tf.float32)[:, :, None]
    places = tf.range(1.0, tf.cast(tf.shape(real)[1], tf.float32) + 1)[None, :, None]
    counted = tf.where(places > skipped, real, 0.0)

    def mean(weights, power=1.0):
        return tf.reduce_sum(sequence * weights, 1) / tf.maximum(tf.reduce_sum(weights, 1), 1e-9) ** power

    found = []
    for name in how["pooling"]:
        if name == "cls":
            found.append((sequence * real)[:, 0])  # zero for a text without tokens
        elif name == "max":
            found.append(tf.reduce_max(tf.where(counted > 0, sequence, -1e9), 1))
        elif name == "lasttoken":
            last = tf.reduce_max(counted * places, 1, keepdims=True)
            found.append(tf.reduce_sum(tf.where(places == last, sequence, 0.0), 1))
        else:
            weights = counted * places if name == "weightedmean" else counted
            found.append(mean(weights, 0.5 if name == "mean_sqrt_len_tokens" else 1.0))
    vectors = tf.concat(found, 1)
    return unit(vectors) if how["normalize"] else vectors


def unit(vectors):
    """Return float vectors [..., D] scaled to length 1; zero vectors remain zero, with finite gradients."""
    return tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-24)
