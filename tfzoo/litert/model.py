"""Predict, embed and generate with an exported file, without TensorFlow."""
import numpy as np

from tfzoo.errors import ConfigError, DataError
from tfzoo.litert.generation import Generator
from tfzoo.litert.runner import FIELDS, Runner
from tfzoo.litert.tokenizer import PortableTokenizer
from tfzoo.records.answers import of_choice, of_label, of_label_set, of_tags, pooled, softmax
from tfzoo.records.options import Options, resolve, tuples
from tfzoo.records.rows import as_text, filled, join_row
from tfzoo.records.tags import OUTSIDE, are_entities, transitions
from tfzoo.records.viterbi import FORBIDDEN, decode
from tfzoo.records.windows import cut_windows, word_windows
from tfzoo.records.words import find_words, kinds_of, split

PAIRED = ("classification", "regression", "multi_label")
TASKS = (*PAIRED, "multiple_choice", "tagging")
TAGGED = 512  # texts that are tagged together
MISSING = -1e9  # the logit of a choice that a row does not have


def load(folder, threads=None):
    """Load a folder that `experiments.export --format=litert` wrote.

    Args:
        folder: str or path.
        threads: int, the number of threads; None for the number of CPUs that this process may use.

    Returns:
        File.

    Raises:
        ConfigError: if a package is not installed.
        FileNotFoundError: if the folder is incomplete.
        DataError: if a file is damaged.

    Example:
        import tfzoo.litert
        file = tfzoo.litert.load("served")
        file.predict(["a fine film"])[0]["label"]
    """
    return File(folder, threads)


class File:
    """An exported file with its tokenizer and settings.

    Args:
        folder, threads: see `load`.

    Attributes:
        config: dict: `task`, `labels`, `settings`, `max_length`, and `litert` (precision, lengths, batches).
        tokenizer: PortableTokenizer.
        cut: int, the number of texts truncated to max_length so far.
    """

    def __init__(self, folder, threads=None):
        self.runner = Runner(folder, threads)
        self.config, self.cut = self.runner.config, 0
        self.tokenizer = PortableTokenizer(folder, self.config["litert"]["tokenizer_sha256"])

    def predict(self, texts, pairs=None):
        """Predict labels, tags or numbers.

        Args:
            texts: list of str; for multiple choice list of dict, {"text": str, "choices": list of str}; for tagging, a
                text may also be a list of words.
            pairs: list of str, the second text of each pair, or None.

        Returns:
            list of dict, one per text: `label` and `probabilities` (classification, multiple choice), `labels` and
            `probabilities` (multi_label), `value` (regression), or `tokens`, `tags` and `entities` (tagging).

        Raises:
            ConfigError: if the file has no such task, or the arguments do not fit it.
        """
        task, settings = self.config["task"], self.config["settings"]
        choice = task == "multiple_choice"
        if task not in TASKS:
            use = "generate" if "cache_length" in self.config["litert"] else "embed" if self.config["embedding"] else \
                "predict of tfzoo.load, which requires TensorFlow"
            raise ConfigError(f"this file is for {task or 'embeddings'}, which tfzoo.litert cannot predict: use {use}")
        if task == "tagging":
            return self._tags(texts, pairs)
        texts = _checked(texts, "texts", dict if choice else str)
        if pairs is not None:
            pairs = _checked(pairs, "pairs", str)
            if choice or len(pairs) != len(texts):
                raise ConfigError(f"got {len(pairs)} pairs for {len(texts)} texts" + " and choices" * choice)
        if not texts:
            return []
        if choice:
            return self._choices(texts)
        parts = [self.tokenizer.encode(texts)] if pairs is None else list(map(self.tokenizer.encode, (texts, pairs)))
        if settings.get("long") == "windows":
            if pairs is not None:
                raise ConfigError("pairs of texts cannot be split into windows, as this model does: omit pairs")
            room = self.tokenizer.room(self.config["max_length"], 1)
            edges = [cut_windows(len(ids), room, settings["overlap"]) for ids in parts[0]]
            windows = np.array([len(each) for each in edges])
            rows = [[ids[first:end]] for ids, each in zip(parts[0], edges) for first, end in each]
            logits = self._run(rows)
            found = pooled(softmax(logits), logits, windows, settings["long_pooling"])
            return of_label(self.config["labels"], found)
        logits = self._run(list(zip(*parts)))
        if task == "regression":
            return [{"value": value} for value in logits[:, 0].tolist()]
        if task == "multi_label":
            return of_label_set(self.config["labels"], (1 / (1 + np.exp(-logits))).astype(np.float32))
        return of_label(self.config["labels"], softmax(logits))

    def embed(self, texts):
        """Compute a vector for each text, as set at export (pooling, normalization and prompt): float32 [B, D].

        Raises:
            ConfigError: if the file returns logits.
        """
        how = self.config["embedding"]
        if how is None:
            raise ConfigError("this file returns logits: export a model without a head, or one trained with "
                              "contrastive learning")
        texts = [how["prompts"].get(how["default_prompt"], "") + text for text in _checked(texts, "texts", str)]
        texts = [text.strip() for text in texts] if how["strip"] else texts
        texts = [text.lower() for text in texts] if how["lowercase"] else texts
        return self._run([[ids] for ids in self.tokenizer.encode(texts)], blank=True)

    def generate(self, texts, **options):
        """Continue prompts, or write targets for sources.

        Args:
            texts: list of str. Prompts that leave no room for the answer lose their first tokens, which `cut` counts.
            options: options of generation by name, such as max_new_tokens, temperature or top_p; see
                tfzoo.records.options.Options. By default, those that the model had at export.

        Returns:
            list of dict, num_return_sequences for each text in their order: `text`, `tokens`, `finished` and, if the
            options ask for them, `score` (beams) and `log_probabilities`.

        Raises:
            ConfigError: if the file does not generate text, or an option is not valid.
            DataError: if the model's outputs are NaN.
        """
        described = self.config["litert"]
        if "cache_length" not in described:
            raise ConfigError(f"this file is for {self.config['task'] or 'embeddings'} and cannot generate text: use "
                              "predict or embed")
        options = self._options(options)
        generator, texts = Generator(self.runner, options), _checked(texts, "texts", str)
        if not texts:
            return []
        if described["source"]:
            prompts, source = [[self.tokenizer.pad_id]] * len(texts), self._sources(texts, generator.room)
        else:
            prompts, source = [self._prompt(ids, generator.room) for ids in self.tokenizer.encode(texts)], None
        found, results, ends = generator.generate(prompts, source), [], options.eos_token_id
        for number, (row, length) in enumerate(zip(found.token_ids, found.lengths)):
            finished = bool(length) and int(row[length - 1]) in ends
            ids, before = row[:length - finished].tolist(), prompts[number // options.num_return_sequences]
            before = before if self.config["task"] == "causal_lm" else []
            text = self.tokenizer.decode([*before, *ids])[len(self.tokenizer.decode(before)):]
            results.append({"text": text, "tokens": len(ids), "finished": finished})
            if found.scores is not None:
                results[-1]["score"] = float(found.scores[number])
            if found.log_probabilities is not None:
                results[-1]["log_probabilities"] = found.log_probabilities[number, :length].tolist()
        return results

    def _options(self, given):
        described = self.config["litert"]
        known, (given, defaults) = FIELDS - {"constraint"}, (
            {name: tuples(value) for name, value in each.items()} for each in (given, described["options"]))
        strange = given.keys() - known
        if strange:
            raise ConfigError(f"the option {min(strange)!r} is unknown; choose from {', '.join(sorted(known))}")
        defaults.setdefault("max_new_tokens", described["new_tokens"])
        return Options(**resolve(given, defaults, described["samples"]))

    def _prompt(self, ids, room):
        opening = self.tokenizer.opening
        if len(opening) + len(ids) <= room:
            return [*opening, *ids] or [self.tokenizer.end_id]
        self.cut += 1
        opening = opening if len(opening) < room else []
        return [*opening, *ids[len(ids) - room + len(opening):]]

    def _sources(self, texts, longest):
        prefix, longest = self.config["settings"].get("source_prefix", ""), min(longest, self.config["max_length"])
        room = self.tokenizer.room(longest, 1)
        rows = self.tokenizer.encode([prefix + text for text in texts])
        self.cut += sum(len(row) > room for row in rows)
        joined = [join_row([row], self.tokenizer.around, room) for row in rows]
        inputs = filled((len(rows), max(1, *(len(row) for row, _ in joined))), enumerate(joined), self.tokenizer.pad_id)
        return {f"encoder_{name}": inputs[name] for name in ("token_ids", "padding_mask")}

    def _choices(self, rows):
        for number, row in enumerate(rows):
            given = row.get("choices")
            if not isinstance(row.get("text"), str) or not isinstance(given, list) or len(given) < 2 or not all(
                    isinstance(one, str) for one in given):
                raise ConfigError(f"texts[{number}] must have text, a string, and choices, at least two strings")
        sizes = [len(row["choices"]) for row in rows]
        texts = self.tokenizer.encode([row["text"] for row in rows])
        choices = self.tokenizer.encode([choice for row in rows for choice in row["choices"]])
        owners = np.repeat(np.arange(len(rows)), sizes)
        logits, places = self._run([(texts[owner], choice) for owner, choice in zip(owners, choices)]), np.cumsum(sizes)
        found = np.full((len(rows), max(sizes)), MISSING, np.float32)
        for number, (size, end) in enumerate(zip(sizes, places)):
            found[number, :size] = logits[end - size:end]
        return of_choice(softmax(found), sizes)

    def _tags(self, texts, pairs):
        settings = self.config["settings"]
        if settings["predicates"] or pairs is not None:
            raise ConfigError("the model needs the predicate of each sentence, which texts cannot mark: use predict of "
                              "tfzoo.load" if settings["predicates"] else "tagging does not accept pairs: omit them")
        if isinstance(texts, (str, bytes, dict)) or not hasattr(texts, "__iter__"):
            raise ConfigError(f"texts must be a list of strings or lists of words, got {str(texts)[:60]!r}")
        if "word_kinds" not in self.config["litert"]:
            raise ConfigError("an earlier version exported this file, without what splits texts into words: export it "
                              "again")
        kinds, texts = kinds_of(self.config["litert"]["word_kinds"]), list(texts)
        return [answer for first in range(0, len(texts), TAGGED)
                for answer in self._tags_of(texts[first:first + TAGGED], kinds, first)]

    def _tags_of(self, texts, kinds, before):
        settings, labels, rows = self.config["settings"], self.config["labels"], []
        for number, text in enumerate(texts, before):
            row = {"text": as_text(text)} if isinstance(text, (str, bytes)) else \
                {"tokens": _checked(text, f"texts[{number}]", str)}
            rows.append(find_words(row, lambda texts: split(texts, kinds)))
        counts = np.array([len(words) for _, words, _ in rows], np.int64)
        pieces = self.tokenizer.encode_words([word for _, words, _ in rows for word in words])
        sentence, sizes = np.repeat(np.arange(len(rows)), counts), np.array([len(part) for part in pieces], np.int64)
        values, last = np.zeros((len(pieces), len(labels)), np.float32), np.cumsum(counts)
        ids = [[token for piece in pieces[end - count:end] for token in piece] for end, count in zip(last, counts)]
        before = np.cumsum(sizes) - sizes
        lengths = np.array([len(part) for part in ids], np.int64)
        first = np.where(sizes > 0, before - (np.cumsum(lengths) - lengths)[sentence], -1)
        room = self.tokenizer.room(self.config["max_length"], 1)
        owners, begins, ends, window = word_windows(lengths, np.full(len(rows), room), settings["overlap"],
                                                    sentence=sentence, first=first, end=first + sizes)
        logits = self._run([[ids[owner][begin:end]] for owner, begin, end in zip(owners, begins, ends)])
        seen = window >= 0
        values[seen] = logits[window[seen], (first - begins[window])[seen] + len(self.tokenizer.around[0])]
        outside = OUTSIDE if OUTSIDE in labels else labels[0]
        try:
            encodes = are_entities(labels)
        except DataError:  # labels that mix entities and classes are treated as classes, as in training
            encodes = False
        allowed = transitions(labels) if encodes and settings["decoding"] == "viterbi" else ()
        if all(part.all() for part in allowed):
            found = np.where(seen, values.argmax(-1), labels.index(outside))
        else:
            unseen = np.where(np.array(labels) == outside, 0, FORBIDDEN).astype(np.float32)
            shifted = values - values.max(-1, keepdims=True)
            scores = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
            found = decode(np.where(seen[:, None], scores, unseen), counts, allowed)
        tags = np.split(np.array(labels, object)[found], np.cumsum(counts)[:-1]) if rows else []
        return [of_tags(list(each), *row, encodes) for each, row in zip(tags, rows)]

    def _run(self, rows, blank=False):
        # The exported output of rows of one or two texts, lists of ids, run with others of similar length. If `blank`,
        # a row without tokens is masked; else it is one padding token, as in tfzoo.data.batches.TextBatches.
        longest = self.config["max_length"]
        joined = []
        for parts in rows:
            room = self.tokenizer.room(longest, len(parts))
            self.cut += sum(map(len, parts)) > room
            tokens, segments = join_row(parts, self.tokenizer.around, room)
            joined.append((tokens, segments) if tokens or blank else ([self.tokenizer.pad_id], [0]))
        order = sorted(range(len(joined)), key=lambda number: len(joined[number][0]))
        widest = max((len(tokens) for tokens, _ in joined), default=1) or 1
        shape = [widest if size is None else size for size in self.runner.output_shape[1:]]
        found, most = np.zeros((len(joined), *shape), np.float32), self.runner.batches[-1]
        for first in range(0, len(order), most):
            chosen = order[first:first + most]
            values = self.runner.encode(filled(
                (len(chosen), max(1, len(joined[chosen[-1]][0]))),
                ((place, joined[number]) for place, number in enumerate(chosen)), self.tokenizer.pad_id))
            found[(chosen, slice(values.shape[1])) if values.ndim == 3 else chosen] = values
        return found


def _checked(texts, name, kind):
    items = {str: "strings", dict: "dict"}[kind]
    if isinstance(texts, (str, bytes, dict)) or not hasattr(texts, "__iter__"):
        raise ConfigError(f"{name} must be a list of {items}, got {str(texts)[:60]!r}")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, (str, bytes) if kind is str else kind):
            raise ConfigError(f"{name}[{number}] must be a {kind.__name__}, got {str(text)[:60]!r}")
    return [as_text(text) for text in texts] if kind is str else texts
