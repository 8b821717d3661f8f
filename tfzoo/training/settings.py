"""The settings of a training run (their fields, one per flag, are in fields.py) and how they depend on each other.

Each default is resolved once: `Settings.resolve` handles those that depend on other settings, `with_length` and
`with_epoch` those that depend on the model and the data. config.json records the result, and a resumed run reads from
it every setting that is not given, so a default that changes between releases never affects an existing run.
"""
import ast
import dataclasses
import difflib
import math
import numbers
import os
import re

from tfzoo.training.fields import (ANEW, EPOCHS, GROUP, LENGTH, METHODS, POWER, RATE_FROM_INIT, RATE_FROM_SCRATCH, SAME,
                                   WARMUP_PART, Fields)

# Values that mean "undecided"; in a resumed run they are decided already, except for settings that may change.
UNDECIDED = {"learning_rate": None, "schedule_power": None, "warmup_steps": -1, "max_length": 0, "document": "auto",
             "pack": "auto", "eval_every": 0, "save_every": 0}
# Recorded settings to drop when a setting that excludes or determines them changes.
REPLACED = {"model": ("init",), "init": ("model", "tokenizer", "lowercase"), "steps": ("epochs",),
            "epochs": ("steps",), "eval_data": ("eval_fraction",), "eval_fraction": ("eval_data",),
            "schedule": ("schedule_power",), "next_sentence": ("pack",), "long": ("overlap", "long_pooling"),
            "task": tuple(field.name for field in dataclasses.fields(Fields) if field.metadata["tasks"])}
_KINDS = {int: (numbers.Integral, "an integer"), float: (numbers.Real, "a finite number"),
          bool: (bool, "true or false"), str: ((str, os.PathLike), "a string"),
          tuple: ((list, tuple), "a list of strings")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Fields):
    """The values of all settings, created by `resolve`; each field's help text is in its metadata.

    Example:
        >>> settings = Settings.resolve({"task": "classification", "model": "bert_tiny", "tokenizer": "bytes",
        ...                              "data": "reviews.jsonl", "output_dir": "runs/reviews"})
        >>> settings.learning_rate, settings.epochs, settings.with_epoch(batches=100).steps
        (0.0005, 3.0, 300)
    """

    @classmethod
    def resolve(cls, given, recorded=None):
        """Resolve every setting that does not depend on the data.

        Args:
            given: dict of name to value, as returned by `checked`; None means not given.
            recorded: dict, config.json of the run to resume, as returned by `in_effect`; None for a new run.

        Returns:
            Settings; steps, warmup_steps, max_length, eval_every and save_every may still be undecided.

        Raises:
            ConfigError: if settings are missing, exclude each other, or do not apply to the task.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if "epochs" in given and "steps" in given:
            _refuse(f"--epochs={given['epochs']} and --steps={given['steps']}: give only one of them")
        values = {field.name: field.default for field in dataclasses.fields(cls)} | given
        if recorded is not None:
            values |= cls._kept(given, recorded)
        settings = cls(**values)
        settings._check()
        return settings._decided()

    @classmethod
    def _kept(cls, given, there):
        # The recorded settings that a resumed run keeps: all that were not given a different value.
        there = {name: tuple(value) if isinstance(value, list) else value for name, value in there.items()}

        def meaning(name, value):  # the same for all spellings of a value
            if name == "override":
                return cls(override=value).overrides()
            path = name in ("init", "tokenizer") and value  # a run's folder is equivalent to its model/
            return os.path.realpath(os.path.expanduser(path)).removesuffix("/model") if path else value

        def is_new(name):
            is_open = name in UNDECIDED and given[name] == UNDECIDED[name] and name not in MAY_CHANGE
            return not is_open and (name not in there or meaning(name, there[name]) != meaning(name, given[name]))

        new = {name for name in given if is_new(name)}
        replaced = {other for name in new & REPLACED.keys() for other in REPLACED[name]}
        return {field.name: there[field.name] for field in dataclasses.fields(cls) if field.name in there
                and field.name not in new | replaced and field.metadata["resumed"] != ANEW}

    def _check(self):
        for name in ("task", "data", "output_dir"):
            if not getattr(self, name):
                meaning, allowed = FIELDS[name].metadata["meaning"], FIELDS[name].metadata.get("allowed", ())
                _refuse(f"--{name} is missing: {meaning[0].lower()}{meaning[1:]} {' or '.join(allowed)}".rstrip())
        if bool(self.model) == bool(self.init):
            _refuse(f"--model={self.model} and --init={self.init}: give exactly one, a model name to train from "
                    "scratch or a folder to start from")
        for one, other in (("eval_data", "eval_fraction"), ("average_checkpoints", "ema_decay")):
            if getattr(self, one) and getattr(self, other):
                _refuse(f"--{one}={getattr(self, one)} and --{other}={getattr(self, other)}: give only one of them")
        if self.init and (self.tokenizer or self.lowercase != "auto"):
            _refuse("--init comes with its own tokenizer: omit --tokenizer and --lowercase")
        if self.model and not self.tokenizer:
            _refuse("--tokenizer is missing: give a vocabulary file or folder, learn:wordpiece:8000, or bytes")
        if self.schedule_power is not None and self.schedule != "polynomial":
            _refuse(f"--schedule_power={self.schedule_power} requires --schedule=polynomial, got "
                    f"--schedule={self.schedule}")
        for name in {name for facts in METHODS.values() for name in facts["arguments"]} & vars(self).keys():
            having = [method for method, facts in METHODS.items() if name in facts["arguments"]]
            if self.method not in having and getattr(self, name) != FIELDS[name].default:
                _refuse(f"--{name}={getattr(self, name)} requires --method={' or '.join(having)}, got "
                        f"--method={self.method}")
        for name in ("overlap", "long_pooling") if self.task == "classification" and self.long != "windows" else ():
            if getattr(self, name) != FIELDS[name].default:
                _refuse(f"--{name}={getattr(self, name)} requires --long=windows, got --long={self.long}")
        if METHODS[self.method].get("pretrained") and not self.init:
            _refuse(f"--method={self.method} requires a pretrained model: give --init instead of --model={self.model}")
        for name, field in FIELDS.items():
            value, tasks = getattr(self, name), field.metadata["tasks"]
            if tasks and self.task not in tasks and value not in (field.default, field.metadata["before"]):
                _refuse(f"--{name}={value} requires --task={' or '.join(tasks)}, got --task={self.task}")
        if self.segmentation != "none" and not self.whole_word:
            _refuse(f"--segmentation={self.segmentation} requires --whole_word")
        if self.pack == "on" and not self._can_pack:
            _refuse("--pack=on and --next_sentence: give only one of them")
        self.overrides()
        self.penalties()

    @property
    def _can_pack(self):
        return self.task in FIELDS["pack"].metadata["tasks"] and not self.next_sentence

    @property
    def _own_rate(self):
        return METHODS[self.method].get("learning_rate") or (RATE_FROM_INIT if self.init else RATE_FROM_SCRATCH)

    def _decided(self):
        rate, epochs, power, pack = self.learning_rate, self.epochs, self.schedule_power, self.pack
        # What does not apply to the task is recorded as older releases recorded or meant it, whatever its default is.
        elsewhere = {name: field.metadata["before"] for name, field in FIELDS.items() if field.metadata["tasks"]
                     and self.task not in field.metadata["tasks"] and field.metadata["before"] is not None}
        return dataclasses.replace(self, **{
            "document": document_of(self.task, self.document),
            "pack": pack if pack != "auto" else "on" if self._can_pack else "off",
            "learning_rate": rate if rate is not None else self._own_rate,
            "epochs": EPOCHS if epochs is None and self.steps is None else epochs,
            "group_size": self.group_size or (min(GROUP, self.batch_size) if self.task == "contrastive" else None),
            "schedule_power": POWER if power is None and self.schedule == "polynomial" else power,
            **elsewhere})

    def with_length(self, positions, trained=None):
        """Return Settings with max_length decided.

        Args:
            positions: int, the model's number of positions.
            trained: int or None, the length that --init was trained with.

        Raises:
            ConfigError: if --max_length exceeds the positions.
        """
        for name in ("max_length", "max_target_length"):
            if (length := getattr(self, name)) > positions:
                _refuse(f"--{name}={length} exceeds the model's {positions} positions: lower it, or train from scratch "
                        f"with --override=max_length={length}")
        return dataclasses.replace(self, max_length=self.max_length or min(positions, trained or LENGTH))

    def with_epoch(self, batches):
        """Return Settings with steps, warmup_steps, eval_every and save_every decided, given the batches per epoch."""
        steps = self.steps or max(1, math.ceil(self.epochs * batches))
        every = self.eval_every or batches
        return dataclasses.replace(
            self, steps=steps, eval_every=every, save_every=self.save_every or every,
            warmup_steps=self.warmup_steps if self.warmup_steps >= 0 else steps // WARMUP_PART)

    def overrides(self):
        """Return the model arguments from --override and --dropout: dict; raise ConfigError if one is malformed."""
        overrides = {}
        for text in self.override:
            name, equals, value = text.partition("=")
            if not equals or not name:
                _refuse(f"--override={text} must have the form name=value, for example num_layers=3")
            try:
                overrides[name] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                overrides[name] = value
        return overrides if self.dropout is None else {**overrides, "dropout": self.dropout}

    def penalties(self):
        """Return --l1 and --l2 parsed: dict of name -> list of (regular expression, coefficient)."""
        found = {}
        for name in ("l1", "l2"):
            for text in getattr(self, name):
                pattern, _, value = text.rpartition("=")
                try:
                    coefficient, regex = float(value), re.compile(pattern)
                except (ValueError, re.error):
                    coefficient = -1.0
                if not pattern or not 0 <= coefficient < math.inf:
                    _refuse(f"--{name}={text} must have the form PATTERN=COEFFICIENT, a regular expression and a "
                            "number of at least 0, for example head/=0.01")
                found.setdefault(name, []).append((regex, coefficient))
        return found

    def of(self, facts):
        """Return the arguments for a task or method, given its entry in TASKS or METHODS: dict, with on/off as bool."""
        values = {name: getattr(self, name) for name in facts["arguments"] if name in vars(self)}
        return {name: value == "on" if "on" in FIELDS[name].metadata.get("allowed", ()) else value
                for name, value in values.items()}

    def config(self):
        """Return the settings to record in config.json: dict of JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["allow_download"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def flags(self):
        """Return the settings that apply to the task as lines of a --flagfile; undecided ones are left undecided."""
        lines = []
        for field in dataclasses.fields(self):
            value, tasks = getattr(self, field.name), field.metadata["tasks"]
            if value is None or tasks and self.task not in tasks or field.name == "steps" and self.epochs is not None:
                continue
            if field.type is bool:
                lines.append(f"--{'' if value else 'no'}{field.name}")
            else:
                lines += [f"--{field.name}={item}" for item in (value if field.type is tuple else (value,))]
        return "\n".join(lines) + "\n"


FIELDS = Settings.__dataclass_fields__
MAY_CHANGE = frozenset(name for name, field in FIELDS.items() if field.metadata["resumed"] != SAME)
BEFORE = {name: field.metadata["before"] for name, field in FIELDS.items()}


def checked(given):
    """Check settings and convert them to plain values of their types.

    Args:
        given: dict of name to value; NumPy numbers, paths and lists are accepted.

    Returns:
        dict of name to value.

    Raises:
        ConfigError: if a name is unknown (the message suggests similar ones), or a type or value is not allowed.
    """
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, 3)
            _refuse(f"unknown setting {name!r}: " + (f"did you mean {' or '.join(near)}?" if near else
                                                     f"choose from {', '.join(FIELDS)}"))
    return {name: _plain(name, value) for name, value in given.items()}


def document_of(task, document="auto"):
    """Return what counts as one document in a .txt file: `document`, or the task's default if it is auto."""
    return document if document != "auto" else "file" if task == "causal_lm" else "paragraph"


def _plain(name, value):
    field = FIELDS[name]
    limits, (kinds, allowed) = field.metadata, _KINDS[field.type]
    if value is None and field.default is None:
        return None
    right = isinstance(value, kinds) and (field.type is bool or not isinstance(value, bool)) and (
        field.type is not tuple or all(isinstance(item, str) for item in value))
    if right:
        value = os.fspath(value) if field.type is str else field.type(value)
    if "allowed" in limits:
        right, allowed = right and value in limits["allowed"], " or ".join(limits["allowed"])
    if "lower" in limits:
        right = right and limits["lower"] <= value <= limits.get("upper", value) and value < math.inf
        allowed += f" >= {limits['lower']}" + (f" and <= {limits['upper']}" if "upper" in limits else "")
    if not right:
        _refuse(f"--{name} must be {allowed}, got {value}")
    return value


def _refuse(message):
    from tfzoo.errors import ConfigError  # not at the top, because it imports TensorFlow
    raise ConfigError(message)
