"""The settings of a training run: one field per shared flag, with its type, default, limits and help text.

Each default is resolved once: `Settings.resolve` handles those that depend on other settings, `with_length` and
`with_epoch` those that depend on the model and the data. config.json records the result, and a resumed run reads from
it every setting that is not given, so a default that changes between releases never affects an existing run. This
module does not import TensorFlow: the scripts load it by itself, so --help and flag errors appear immediately.
"""
import ast
import dataclasses
import difflib
import math
import numbers
import os
import pathlib


def _declared(package):
    # The literal attributes and __init__ arguments of a package's named classes, read without importing it.
    found = {}
    for path in sorted((pathlib.Path(__file__).parents[1] / package).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            facts = {"arguments": []}
            for line in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(line, ast.FunctionDef) and line.name == "__init__":
                    facts["arguments"] = [argument.arg for argument in (*line.args.args[1:], *line.args.kwonlyargs)]
                elif isinstance(line, ast.Assign) and isinstance(line.targets[0], (ast.Name, ast.Tuple)):
                    tuples = isinstance(line.targets[0], ast.Tuple)
                    names, values = (part.elts if tuples else [part] for part in (line.targets[0], line.value))
                    facts |= {name.id: part.value for name, part in zip(names, values)
                              if isinstance(part, ast.Constant)}
            found |= {facts["name"]: facts} if isinstance(facts.get("name"), str) else {}
    return found


TASKS, METHODS = _declared("tasks"), _declared("methods")  # adding a file is enough
PRETRAINING, FINETUNING = (tuple(name for name, facts in TASKS.items() if facts.get("script") == script)
                           for script in ("pretrain", "finetune"))
POLICIES = {"auto": None, "float32": "float32", "bfloat16": "mixed_bfloat16"}  # dtype policy of a --precision
RATE_FROM_INIT, RATE_FROM_SCRATCH, SEEDS = 5e-5, 5e-4, 2 ** 64 - 1  # SEEDS: the largest seed of NumPy's Philox
TARGETS, NO_DECAY = r"attention/(query|value)$", r"(bias|norm/gamma|norm/beta)$"
EPOCHS, POWER, LENGTH, LONGEST, WARMUP_PART = 3.0, 2.0, 256, 1024, 10  # LONGEST as in transformers' scripts
# Values that mean "undecided"; in a resumed run they are decided already, except for settings that may change.
UNDECIDED = {"learning_rate": None, "schedule_power": None, "warmup_steps": -1, "max_length": 0, "document": "auto",
             "pack": "auto", "eval_every": 0, "save_every": 0}
# Recorded settings to drop when a setting that excludes or determines them changes.
REPLACED = {"model": ("init",), "init": ("model", "tokenizer", "lowercase"), "steps": ("epochs",),
            "epochs": ("steps",), "eval_data": ("eval_fraction",), "eval_fraction": ("eval_data",),
            "schedule": ("schedule_power",), "next_sentence": ("pack",),
            "task": ("document", "next_sentence", "whole_word", "pack")}
# On resume, a setting must be unchanged; may change (default: the recorded value); or is not read from config.json.
SAME, FREE, ANEW = "same", "free", "anew"
_KINDS = {int: (numbers.Integral, "an integer"), float: (numbers.Real, "a finite number"),
          bool: (bool, "true or false"), str: ((str, os.PathLike), "a string"),
          tuple: ((list, tuple), "a list of strings")}


def setting(default, meaning, *, resumed=SAME, before=None, tasks=None, begins=None, **limits):
    """Return the dataclass field of a setting.

    Args:
        default: the value if not given; None if there is no default, or it depends on other settings.
        meaning: str, the --help text.
        resumed: SAME, FREE or ANEW, how a resumed run treats the setting.
        before: the effective value in runs older than the setting, if it was added after release 0.1.0.
        tasks: tuple of str, the tasks it applies to; None for all. begins: str, the --help group that starts here.
        limits: `allowed`, a tuple of str; or `lower` and `upper`, inclusive bounds.
    """
    return dataclasses.field(default=default, metadata={"meaning": meaning, "resumed": resumed, "before": before,
                                                        "tasks": tasks, "begins": begins, **limits})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of all settings, created by `resolve`; each field's help text is in its metadata.

    Example:
        >>> settings = Settings.resolve({"task": "classification", "model": "bert_tiny", "tokenizer": "bytes",
        ...                              "data": "reviews.jsonl", "output_dir": "runs/reviews"})
        >>> settings.learning_rate, settings.epochs, settings.with_epoch(batches=100).steps
        (0.0005, 3.0, 300)
    """

    task: str = setting(None, "What the model learns.", allowed=PRETRAINING + FINETUNING, begins="what")
    model: str = setting(
        None, "Name of a model to train from scratch (python -m experiments.models lists them); its vocab_size is set "
        "from the vocabulary.")
    init: str = setting(
        None, "Pretrained weights to start from instead: the folder of a finished run (or its model/), a Hugging Face "
        "transformers folder with safetensors, hf:ID from the Hugging Face hub, or keras_nlp:PRESET.")
    dropout: float = setting(None, "Dropout rate; default: the model's own.", lower=0.0, upper=0.99)
    override: tuple = setting((), "A model argument as name=value, for example num_layers=3; may be repeated.")

    data: str = setting(
        None, "A file (.jsonl, .tsv, .csv or .txt; for tagging .conll or .jsonl; all may be gzipped), a folder of such "
        "files (those named train), builtin:python (docstrings of the installed Python), builtin:python_source "
        "(its source code), or tfds:NAME.", resumed=FREE, begins="data")  # the SHA-256 of the contents must be the same
    eval_data: str = setting(
        None, "Evaluation data. Default: the evaluation split of --data: a folder's eval, dev, valid, validation or, "
        "failing those, test files; tfds:NAME's validation or test split; or the built-in one, if any.", resumed=FREE)
    eval_fraction: float = setting(
        0.0, "Fraction of --data to hold out at random for evaluation, instead of --eval_data.", lower=0.0, upper=0.9)
    max_length: int = setting(
        0, "Maximum number of tokens per example, including special tokens; longer examples are truncated and counted. "
        f"0: the length that --init was trained with (at most {LONGEST} for models from other libraries); from scratch "
        f"{LENGTH}, or the model's number of positions if smaller.", lower=0)
    max_bad_rows: int = setting(0, "Skip up to this many unreadable rows.", lower=0)
    allow_download: bool = setting(False, "Allow tfds:NAME to download data.", resumed=ANEW)
    document: str = setting(
        "auto", "What counts as one document in a .txt file. auto: file for causal_lm, otherwise paragraph.",
        allowed=("auto", "paragraph", "line", "file"), before="paragraph", tasks=PRETRAINING)
    tokenizer: str = setting(
        None, "A vocabulary file or folder; learn:wordpiece:SIZE or learn:bpe:SIZE to learn one from the training "
        "data; or bytes. Not allowed with --init, which has its own tokenizer.")
    lowercase: str = setting(
        "auto", "Lowercase and strip accents (WordPiece). auto: as configured in the vocabulary's folder, otherwise "
        "true if the vocabulary has no capitals; true for learned vocabularies.", allowed=("auto", "true", "false"))
    next_sentence: bool = setting(
        False, "masked_lm: also predict whether segment B follows segment A.", before=False, tasks=("masked_lm",))
    whole_word: bool = setting(
        False, "masked_lm: mask all pieces of a word together.", before=False, tasks=("masked_lm",))
    pack: str = setting(
        "auto", "masked_lm: pack several documents into one row, without attention between them. auto: on unless "
        "--next_sentence is set.", allowed=("auto", "on", "off"), before="off", tasks=("masked_lm",))

    method: str = setting(
        "full", " ".join(f"{name}: {facts['about']}" for name, facts in sorted(METHODS.items())),
        allowed=tuple(sorted(METHODS)), before="full", begins="method")
    rank: int = setting(8, "lora: rank of the adapters.", before=8, lower=1)
    alpha: float = setting(8.0, "lora: adapter outputs are scaled by alpha / rank.", before=8.0, lower=0.0)
    adapter_dropout: float = setting(
        0.0, "lora: dropout rate on the adapters' inputs.", before=0.0, lower=0.0, upper=0.99)
    targets: str = setting(
        TARGETS, "lora: add an adapter to each projection whose path contains a match of this regular expression.",
        before=TARGETS)

    batch_size: int = setting(32, "Examples per update, across all devices.", lower=1, begins="optimization")
    epochs: float = setting(
        None, f"Passes over the training data; default {EPOCHS:g}, unless --steps is given.", resumed=FREE, lower=1e-6)
    steps: int = setting(None, "Number of updates, instead of --epochs.", resumed=FREE, lower=1)
    optimizer: str = setting(
        "adamw", "bert_adamw: AdamW without bias correction, as in Google's BERT; lamb: for large batches; adafactor: "
        "factored second moments.", allowed=("adamw", "bert_adamw", "lamb", "adafactor"))
    learning_rate: float = setting(
        None, f"Peak learning rate; default {RATE_FROM_INIT:g} with --init, {RATE_FROM_SCRATCH:g} from "
        "scratch" + "".join(f", {facts['learning_rate']:g} with --method={name}" for name, facts in METHODS.items()
                            if facts.get("learning_rate")) + ".", lower=0.0)
    schedule: str = setting(
        "linear", "How the learning rate decays after warmup.",
        allowed=("linear", "cosine", "polynomial", "inverse_sqrt", "constant"))
    schedule_power: float = setting(None, f"Power of --schedule=polynomial; default {POWER:g}.", lower=0.0)
    warmup_steps: int = setting(-1, f"Number of warmup updates; -1: 1/{WARMUP_PART} of all updates.", lower=-1)
    weight_decay: float = setting(0.01, "Decoupled weight decay.", lower=0.0)
    no_decay: str = setting(
        NO_DECAY, "Weights whose path contains a match of this regular expression do not decay.", before=NO_DECAY)
    layer_decay: float = setting(
        1.0, "Factor applied to the learning rate for each layer below the top.", before=1.0, lower=0.01, upper=1.0)
    ema_decay: float = setting(
        0.0, "Evaluate and save an exponential moving average of the weights with this decay; 0: the weights "
        "themselves.", before=0.0, lower=0.0, upper=0.999999)
    clip_norm: float = setting(1.0, "Clip the gradient to this global norm; 0: no clipping.", lower=0.0)
    accumulate_steps: int = setting(
        1, "Gradient accumulation: split each batch into this many microbatches to save memory; the update stays the "
        "same.", resumed=FREE, lower=1)
    remat: bool = setting(
        False, "Rematerialize: recompute block activations in the backward pass to save memory.", resumed=FREE)
    max_bad_steps: int = setting(
        10, "Stop after this many consecutive updates with a non-finite loss or gradient; each one is skipped and "
        "logged.", resumed=FREE, lower=1)
    patience: int = setting(
        0, "Stop after this many consecutive evaluations without a new best result; 0: never.", lower=0)

    output_dir: str = setting(
        None, "The run's folder; an interrupted run resumes from it.", resumed=ANEW, begins="running")
    strategy: str = setting(
        "auto", "one_device; mirrored: all GPUs on this machine; multi_worker: several processes, described by "
        "TF_CONFIG or Slurm; tpu. auto: multi_worker if TF_CONFIG or Slurm describes several workers, mirrored if "
        "there are several devices, otherwise one_device.", resumed=ANEW)
    virtual_devices: int = setting(
        0, "Split the CPU into this many devices, to try out --strategy=mirrored.", resumed=ANEW, lower=0)
    precision: str = setting(
        "float32", "float32, or bfloat16: Keras' mixed_bfloat16 policy, which keeps the weights in float32.",
        allowed=("float32", "bfloat16"))
    xla: str = setting("auto", "Compile forward and backward passes with XLA. auto: only on a GPU or TPU.",
                       resumed=ANEW, allowed=("auto", "on", "off"))
    seed: int = setting(0, "Random seed for initial weights, data order, masks and dropout.", lower=0, upper=SEEDS)
    eval_every: int = setting(0, "Steps between evaluations; 0: once per epoch.", resumed=FREE, lower=0)
    save_every: int = setting(0, "Steps between checkpoints; 0: same as --eval_every.", resumed=FREE, lower=0)
    log_every: int = setting(50, "Steps between records in metrics.jsonl.", resumed=FREE, lower=1)
    keep: int = setting(2, "Number of newest checkpoints to keep, in addition to the best.", resumed=FREE, lower=1)
    resume: str = setting(
        "auto", "auto: resume the run in the folder, if any; never: fail if the folder contains a run; must: fail "
        "if it does not.", resumed=ANEW, allowed=("auto", "never", "must"))
    deterministic: bool = setting(False, "Make runs on the same machine bitwise reproducible.")

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
        there = {**there, "override": tuple(there.get("override", ()))}

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
        if self.eval_data and self.eval_fraction:
            _refuse(f"--eval_data={self.eval_data} and --eval_fraction={self.eval_fraction}: give only one of them")
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
        if METHODS[self.method].get("pretrained") and not self.init:
            _refuse(f"--method={self.method} requires a pretrained model: give --init instead of --model={self.model}")
        if self.task != "masked_lm" and (self.next_sentence or self.whole_word):
            _refuse(f"--next_sentence and --whole_word require --task=masked_lm, got --task={self.task}")
        if self.document not in ("auto", "paragraph") and self.task not in PRETRAINING:
            _refuse(f"--document={self.document} requires --task={' or '.join(PRETRAINING)}, got --task={self.task}")
        if self.pack == "on" and not self._can_pack:
            _refuse(f"--pack=on requires --task=masked_lm without --next_sentence, got --task={self.task}"
                    f"{' --next_sentence' if self.next_sentence else ''}; causal_lm rows are always full")
        self.overrides()

    @property
    def _can_pack(self):
        return self.task == "masked_lm" and not self.next_sentence

    @property
    def _own_rate(self):
        return METHODS[self.method].get("learning_rate") or (RATE_FROM_INIT if self.init else RATE_FROM_SCRATCH)

    def _decided(self):
        rate, epochs, power, pack = self.learning_rate, self.epochs, self.schedule_power, self.pack
        return dataclasses.replace(
            self, document=document_of(self.task, self.document),
            pack=pack if pack != "auto" else "on" if self._can_pack else "off",
            learning_rate=rate if rate is not None else self._own_rate,
            epochs=EPOCHS if epochs is None and self.steps is None else epochs,
            schedule_power=POWER if power is None and self.schedule == "polynomial" else power)

    def with_length(self, positions, trained=None):
        """Return Settings with max_length decided.

        Args:
            positions: int, the model's number of positions.
            trained: int or None, the length that --init was trained with.

        Raises:
            ConfigError: if --max_length exceeds the positions.
        """
        if self.max_length > positions:
            _refuse(f"--max_length={self.max_length} exceeds the model's {positions} positions: lower it, or train "
                    f"from scratch with --override=max_length={self.max_length}")
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

    def of(self, facts):
        """Return the arguments for a task or method, given its entry in TASKS or METHODS: dict, with on/off as bool."""
        values = {name: getattr(self, name) for name in facts["arguments"] if name in vars(self)}
        return {name: {"on": True, "off": False}.get(value, value) for name, value in values.items()}

    def config(self):
        """Return the settings to record in config.json: dict of JSON values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                if field.name != "allow_download"}

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
