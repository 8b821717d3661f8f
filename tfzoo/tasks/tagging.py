"""Tagging: a label for each word, for example named entities or parts of speech (Devlin et al. 2018,
arXiv:1810.04805, section 5.3).

A word gets the tag of its first token. Words without a token, or beyond max_length, are predicted O (or the first label
if there is no O), so that there is one tag per input word.
"""
import numpy as np
import tensorflow as tf

from tfzoo.data.batches import Derived, TextBatches
from tfzoo.data.encode import EncodedTexts
from tfzoo.data.sentences import SENTENCES, Sentences
from tfzoo.errors import DataError
from tfzoo.metrics.entities import class_metrics, entity_metrics, word_accuracy
from tfzoo.records.tags import OUTSIDE, are_entities, entities, to_scheme, types_of
from tfzoo.tasks.evidence import of_tags
from tfzoo.tasks.heads import PositionHead
from tfzoo.tasks.task import Task
from tfzoo.text import split_words, split_words_in_graph
from tfzoo.text.tokenizer import as_texts


def _joined(words):
    # (text, words, starts, ends) of words joined by spaces; starts and ends in code points of the text.
    ends = (np.cumsum([len(word) + 1 for word in words], dtype=int) - 1).tolist()
    return " ".join(words), words, [end - len(word) for end, word in zip(ends, words)], ends


class WordBatches(Derived):
    """Batches of sentences that are split into words.

    Args:
        source: Sentences.
        tokenizer: Tokenizer.
        batch_size, max_length, seed, shuffle, multiple: see `TextBatches`.
        outside: str, the tag of words that the model does not see.
        targets: list of int [words], the label ids of the words of each sentence; None without tags.

    Attributes:
        source: Sentences.
        beyond: int, the number of words beyond max_length.
        tokenless: int, the number of words without a token.
    """

    def __init__(self, source, tokenizer, batch_size, max_length, seed, shuffle, multiple, outside, targets=None):
        self.source, encoded = source, tokenizer.encode_words(source.columns["tokens"])
        texts = EncodedTexts(encoded.token_ids, encoded.starts, encoded.ends)
        base = TextBatches((texts,), tokenizer, batch_size=batch_size, max_length=max_length, seed=seed,
                           shuffle=shuffle, multiple=multiple)
        before = len(tokenizer.around[0])
        self.tokenless, self.beyond = int((encoded.first < 0).sum()), int((encoded.first >= base.room).sum())
        places = np.where((encoded.first < 0) | (encoded.first >= base.room), -1, encoded.first + before)
        self._places = np.split(places, np.cumsum([len(words) for words in source.columns["tokens"]])[:-1])
        self._labels = targets
        self._outside = outside
        super().__init__(base, self._targets, source.columns.get("tags"))

    def places(self, example):
        """Return the column of each word of an example, int [words]; -1 if the word has no column."""
        return self._places[example]

    def _targets(self, batch, step, rows):
        if self._labels is None:
            return {}
        labels = np.zeros_like(batch["token_ids"])
        weights = np.zeros(labels.shape, np.float32)
        for number, example in enumerate(rows):
            if example >= 0:
                places = self._places[example]
                seen = places >= 0
                labels[number, places[seen]] = self._labels[example][seen]
                weights[number, places[seen]] = 1
        return {"labels": labels, "weights": weights}

    def notes(self, source, max_length):
        """Return notes for the user (see Batches)."""
        counts = ((self.beyond, f"are beyond {max_length} tokens"), (self.tokenless, "have no token"))
        words = sum(map(len, self._places))
        return [f"{source.name}: {count:,} of {words:,} words {what} and are predicted {self._outside}"
                for count, what in counts if count]


class Tagging(Task):
    """Assign one of `labels` to each word.

    Args:
        labels: list of str, in the order of the logits: O, B-TYPE and I-TYPE for entities, or plain classes.
    """

    name, script, schema, pooled = "tagging", "finetune", SENTENCES, False
    labelled = answered = True
    shown = ("loss", "f1", "accuracy")

    def __init__(self, labels):
        self.labels = list(labels)
        try:
            self.entities = are_entities(self.labels)
        except DataError:  # labels that mix entities and classes are treated as classes
            self.entities = False

    @property
    def better(self):
        return ("f1" if self.entities else "accuracy"), max

    @property
    def outside(self):
        """Return the tag of words that the model does not see: O, or the first label if there is no O."""
        return OUTSIDE if OUTSIDE in self.labels else self.labels[0]

    def head(self, body, dropout):
        return PositionHead(len(self.labels), body.config["hidden_dim"], dropout, name="head", dtype=body.dtype_policy)

    def read(self, rows):
        """Return the Sentences of rows with tokens, or with text, which is split into words."""
        texts = as_texts([row.get("text", "") for row in rows])
        found = [_joined(as_texts(row["tokens"])) if "tokens" in row else (text, *each)
                 for row, text, each in zip(rows, texts, zip(*split_words(texts)))]
        return Sentences("rows", dict(zip(("text", "tokens", "starts", "ends"), map(list, zip(*found)))))

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        targets = None
        if "tags" in source.columns:
            tags = self._in_scheme(source.columns["tags"])
            targets = Sentences(source.name, {**source.columns, "tags": tags}).label_ids(self.labels)
        return WordBatches(source, tokenizer, batch_size=batch_size, max_length=max_length, seed=seed,
                           shuffle=training, multiple=multiple, outside=self.outside, targets=targets)

    def _in_scheme(self, sentences):
        # The tags of a data set that uses a different scheme from the labels are converted.
        if not self.entities or not are_entities({tag for tags in sentences for tag in tags}):
            return sentences
        return [to_scheme(tags, self.labels) for tags in sentences]

    def predict(self, model, batch, outputs):
        return {"tags": tf.argmax(outputs["logits"], -1, output_type=tf.int32)}

    def answers(self, predictions, batches):
        columns, found = batches.source.columns, []
        for example, (row, words) in enumerate(zip(predictions["tags"], columns["tokens"])):
            tags = [self.outside if place < 0 else self.labels[row[place]] for place in batches.places(example)]
            text, _, starts, ends = (columns[key][example] for key in ("text", "tokens", "starts", "ends")) \
                if "text" in columns else _joined(words)
            spans = [(kind, starts[first], ends[end - 1])
                     for kind, first, end in (entities(tags) if self.entities else ())]
            found.append({"tokens": list(words), "tags": tags, "entities": [
                {"type": kind, "start": start, "end": end, "text": text[start:end]} for kind, start, end in spans]})
        return found

    def evidence(self, answers, references, source):
        references = self._in_scheme(references)
        return of_tags(self.labels, answers, references, types_of(self.labels) if self.entities else None)

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task); given answers, entity f1, precision and recall as in conlleval, and accuracy."""
        base = super().metrics(sums)
        if answers is None:
            return {"loss": base["loss"], "accuracy": base["accuracy"]}
        tags = [answer["tags"] for answer in answers]
        if not self.entities:
            return {"loss": base["loss"], **class_metrics(references, tags, self.labels)}
        true, found = ([entities(each) for each in each_of] for each_of in (references, tags))
        return {"loss": base["loss"], "accuracy": word_accuracy(self._in_scheme(references), tags),
                **entity_metrics(true, found, types_of(self.labels))}

    def encode(self, tokenizer, texts, max_length, pairs=None):
        """Encode raw texts (see Task), with the words of `split_words` and the column of each word."""
        words, starts, ends = split_words_in_graph(texts)
        pieces = tokenizer.word_pieces(words.flat_values)  # [words of all texts, tokens]
        tokens, counts = words.with_values(pieces).merge_dims(1, 2), tf.cast(pieces.row_lengths(), tf.int32)
        edges = tf.concat([[0], tf.cumsum(counts)], 0)
        first = edges[:-1] - tf.gather(tf.gather(edges, words.row_starts()), words.value_rowids())
        room = tokenizer.room(max_length, 1)
        places = tf.where((counts > 0) & (first < room), first + len(tokenizer.around[0]), -1)
        length = tf.cast(words.row_lengths(), tf.int32)
        return {**tokenizer.join([tokens], max_length), "places": words.with_values(places).to_tensor(-1),
                "starts": starts.to_tensor(0), "ends": ends.to_tensor(0), "length": length,
                "cut": tf.maximum(tf.cast(tokens.row_lengths(), tf.int32) - room, 0)}

    def serve(self, predictions, batch):
        """Return tags tf.string [B, W], starts and ends int32 [B, W] in code points, length and cut int32 [B]."""
        places = batch["places"]
        tags = tf.pad(predictions["tags"], [[0, 0], [0, 1]])  # at least one column, even if all texts are empty
        tags = tf.gather(tf.constant(self.labels), tf.gather(tags, tf.maximum(places, 0), batch_dims=1))
        tags = tf.where(places < 0, self.outside, tags)
        inside = tf.sequence_mask(batch["length"], tf.shape(places)[1])
        return {"tags": tf.where(inside, tags, ""), **{key: batch[key] for key in ("starts", "ends", "length", "cut")}}
