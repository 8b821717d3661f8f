"""Tagging: a label for each word, for example named entities or parts of speech (Devlin et al. 2018,
arXiv:1810.04805, section 5.3), or the roles of a predicate (Shi and Lin 2019, arXiv:1904.05255).

A word gets the tag of its first token, in the window that the word belongs to. Words without a token are predicted O
(or the first label if there is no O), so that there is one tag per input word. Unlike in the papers, decoding can
forbid sequences of tags that encode no entities, and the predicate precedes the sentence, so that decoders see it.
"""
import numpy as np
import tensorflow as tf

from tfzoo.data.sentences import SENTENCES, Sentences, located
from tfzoo.data.word_batches import WordBatches
from tfzoo.errors import ConfigError, DataError
from tfzoo.metrics.entities import class_metrics, entity_metrics, word_accuracy
from tfzoo.progress import tell
from tfzoo.records.answers import of_tags
from tfzoo.records.tags import (OUTSIDE, are_entities, entities, has_ends, is_io, strict_entities, to_scheme,
                                transitions, types_of)
from tfzoo.records.viterbi import FORBIDDEN, decode, penalties
from tfzoo.tasks.heads import PositionHead
from tfzoo.tasks.task import Task
from tfzoo.tasks.viterbi import viterbi
from tfzoo.text import split_words_in_graph


class Tagging(Task):
    """Assign one of `labels` to each word.

    Args:
        labels: list of str, in the order of the logits: O, B-TYPE and I-TYPE for entities, or plain classes.
        overlap: int, the number of tokens that the windows of a long sentence share; None for a quarter of a window.
        context: int, the maximum number of tokens from neighboring sentences of the document, on each side.
        decoding: str, "argmax", the best label of each word; or "viterbi", the best sequence that `records.tags.
            transitions` allows.
        strict: bool, whether to score only entities that are encoded without error (see `strict_entities`).
        predicates: bool, whether each sentence has a predicate; `features` sets it when it makes training data.

    Raises:
        ConfigError: if an argument is not allowed, or `strict` is given, but the labels are IO or plain classes.
    """

    name, script, schema, pooled = "tagging", "finetune", SENTENCES, False
    labelled = answered = True
    shown = ("loss", "f1", "accuracy")

    def __init__(self, labels, overlap=None, context=0, decoding="argmax", strict=False, predicates=False):
        self.labels, self.overlap, self.context = list(labels), overlap, context
        self.decoding, self.strict, self.predicates = decoding, strict, predicates
        if decoding not in ("viterbi", "argmax") or context < 0 or overlap is not None and overlap < 0:
            raise ConfigError(f"decoding must be viterbi or argmax, and overlap and context at least 0, got "
                              f"{decoding}, {overlap} and {context}")
        try:
            self.entities = are_entities(self.labels)
        except DataError:  # labels that mix entities and classes are treated as classes
            self.entities = False
        if strict and (not self.entities or is_io(self.labels)):
            raise ConfigError(f"strict scoring requires labels in a scheme that marks where entities begin, such as "
                              f"IOB2, got {', '.join(self.labels[:8])}: use strict=False")
        self._allowed = transitions(self.labels) if self.entities and decoding == "viterbi" else ()
        self._searches = not all(part.all() for part in self._allowed)

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
        source = super().read(rows)
        if "document" in source.columns:
            numbers = {}
            source.columns["document"] = [numbers.setdefault(document, len(numbers) + 1) if document else 0
                                          for document in source.columns["document"]]
        return source

    def features(self, source, tokenizer, *, batch_size, max_length, seed=0, training=False, multiple=8):
        targets, marked = None, "predicate" in source.columns
        self.predicates = marked if training else self.predicates
        if self.predicates and not marked:
            raise DataError(f"{source.name}: no predicates, but the model was trained with one in each row")
        if training and self.context and "document" not in source.columns:
            raise ConfigError(f"--context={self.context}: {source.name} does not mark documents (with -DOCSTART-, "
                              "# newdoc or a column named document): omit --context")
        if "tags" in source.columns:
            tags = self.in_scheme(source.columns["tags"])
            targets = Sentences(source.name, {**source.columns, "tags": tags}).label_ids(self.labels)
        return WordBatches(source, tokenizer, batch_size=batch_size, max_length=max_length, seed=seed,
                           shuffle=training, multiple=multiple, overlap=self.overlap, context=self.context,
                           predicates=self.predicates, targets=targets, outside=self.outside)

    def in_scheme(self, sentences):
        """Convert the tags of sentences to the scheme of the labels: list of lists of str."""
        if not self.entities or not are_entities({tag for tags in sentences for tag in tags}):
            return sentences
        return [to_scheme(tags, self.labels) for tags in sentences]

    def predict(self, model, batch, outputs):
        """Return `scores` float32 [B, T, C] (log-probabilities) if `decoding` needs them, else `tags` int32 [B, T]."""
        if self._searches:
            return {"scores": tf.nn.log_softmax(outputs["logits"])}
        return {"tags": tf.argmax(outputs["logits"], -1, output_type=tf.int32)}

    @property
    def _unseen(self):
        # The scores of a word without a token, float32 [C].
        return np.where(np.array(self.labels) == self.outside, 0, FORBIDDEN).astype(np.float32)

    def _ids(self, predictions, batches):
        # The label ids of all words in order, int [W].
        seen, values = batches.words_of(predictions["scores" if self._searches else "tags"])
        if not self._searches:
            return np.where(seen, values, self.labels.index(self.outside))
        return decode(np.where(seen[:, None], values, self._unseen), batches.counts, self._allowed)

    def answers(self, predictions, batches):
        columns, found = batches.source.columns, []
        ids = np.split(self._ids(predictions, batches), np.cumsum(batches.counts)[:-1])
        for example, numbers in enumerate(ids):
            tags = [self.labels[number] for number in numbers]
            text, words, places = located({key: columns[key][example] for key in ("text", "tokens", "offsets")
                                           if key in columns})
            found.append(of_tags(tags, text, words, places, self.entities))
        return found

    def read_entities(self, tags):
        """Return the entities in predicted tags (see `records.tags.entities`), read strictly if the task is strict."""
        return strict_entities(tags, has_ends(self.labels)) if self.strict else entities(tags)

    def metrics(self, sums, answers=None, references=None):
        """Compute metrics (see Task); given answers, entity f1, precision and recall as in conlleval, and accuracy."""
        base = super().metrics(sums)
        if answers is None:
            return {"loss": base["loss"], "accuracy": base["accuracy"]}
        tags = [answer["tags"] for answer in answers]
        if not self.entities:
            return {"loss": base["loss"], **class_metrics(references, tags, self.labels)}
        true = [entities(each) for each in references]
        found = list(map(self.read_entities, tags))
        if not any(true):
            tell("f1 and recall are reported as 0, since the data have no entities")
        return {"loss": base["loss"], "accuracy": word_accuracy(self.in_scheme(references), tags),
                **entity_metrics(true, found, types_of(self.labels))}

    def encode(self, tokenizer, texts, max_length, pairs=None):
        """Encode raw texts (see Task), with the words of `split_words` and the column of each word."""
        if self.predicates:
            raise ConfigError("the model needs the predicate of each sentence, which strings cannot mark: "
                              "use experiments.predict")
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
        places, length = batch["places"], batch["length"]
        values = predictions["scores" if self._searches else "tags"]
        values = tf.pad(values, [[0, 0], [0, 1], [0, 0]][:values.shape.rank])  # a column even if all texts are empty
        ids = tf.gather(values, tf.maximum(places, 0), batch_dims=1)
        if self._searches:
            ids = viterbi(tf.where((places < 0)[:, :, None], self._unseen, ids), length, *penalties(self._allowed))
        else:
            ids = tf.where(places < 0, self.labels.index(self.outside), ids)
        inside = tf.sequence_mask(length, tf.shape(places)[1])
        tags = tf.where(inside, tf.gather(tf.constant(self.labels), tf.where(inside, ids, 0)), "")
        return {"tags": tags, **{key: batch[key] for key in ("starts", "ends", "length", "cut")}}
