"""Answers made of the probabilities of labels."""
import numpy as np

from tfzoo.records.tags import entities


def softmax(logits):
    """Return the probabilities of logits, float [..., C]: float32."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def pooled(probabilities, logits, windows, how):
    """Return the probabilities of texts, from the logits of their windows.

    Args:
        probabilities, logits: float32 [N, C], those of the windows; the windows of a text are neighbors.
        windows: int [texts], the number of windows of each text, at least 1.
        how: str, "mean" or "max" of a text's logits for each label.

    Returns:
        float32 [texts, C].
    """
    firsts, logits = np.cumsum(windows) - windows, logits.astype(np.float64)
    joined = np.maximum.reduceat(logits, firsts) if how == "max" else \
        np.add.reduceat(logits, firsts) / windows[:, None]
    single = (windows == 1)[:, None]  # unchanged to the last bit
    return np.where(single, probabilities[firsts], softmax(joined))


def of_label(labels, probabilities):
    """Return the answers of classification, list of dict, for probabilities [N, C] of list of str labels."""
    return [{"label": labels[int(row.argmax())], "probabilities": dict(zip(labels, row.tolist()))}
            for row in probabilities]


def of_label_set(labels, probabilities, threshold=0.5):
    """Return the answers of multi-label classification, with all labels of at least a probability; see `of_label`."""
    return [{"labels": [label for label, value in zip(labels, row) if value >= threshold],
             "probabilities": dict(zip(labels, row))} for row in probabilities.tolist()]


def of_choice(probabilities, sizes):
    """Return the answers of multiple choice, list of dict, for probabilities [N, choices] and each row's number."""
    found = [row[:size] for row, size in zip(probabilities, sizes)]
    return [{"label": int(row.argmax()), "probabilities": row.tolist()} for row in found]


def of_tags(tags, text, words, places, encode_entities):
    """Return the answer of tagging for a sentence, a dict.

    Args:
        tags: list of str, one for each word.
        text, words, places: see `words.find_words`.
        encode_entities: bool, whether the tags encode entities.
    """
    spans = [(kind, min(start for start, _ in places[first:end]), max(end for _, end in places[first:end]))
             for kind, first, end in (entities(tags) if encode_entities else ())]
    return {"tokens": list(words), "tags": tags, "entities": [
        {"type": kind, "start": start, "end": end, "text": text[start:end]} for kind, start, end in spans]}
