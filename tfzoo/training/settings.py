"""The settings of a training run: a field for each shared flag, with its type, default, limits and meaning.

A default is resolved once: `Settings.resolve` decides what depends on other settings, `with_length` and `with_epoch`
what depends on the model and the data. The outcome is what config.json records; a run that goes on takes from there
what nobody gave, so a default that changes between releases never changes a run. Nothing of TensorFlow is imported
here: the scripts read this file by itself, so that --help and a wrong flag need not wait for it.
"""
import ast
import dataclasses
import difflib
import math
import numbers
import os
import pathlib


def _declared(package):
    """Return what the classes of a package with a `name` say of themselves: dict of name -> dict of literals."""
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


TASKS, METHODS = _declared("tasks"), _declared("methods")  # a file there is all that a new one needs
PRETRAINING, FINETUNING = (tuple(name for name, facts in TASKS.items() if facts.get("script") == script)
                           for script in ("pretrain", "finetune"))
POLICIES = {"auto": None, "float32": "float32", "bfloat16": "mixed_bfloat16"}  # dtype policy of a --precision
RATE_FROM_INIT, RATE_FROM_SCRATCH, SEEDS = 5e-5, 5e-4, 2 ** 64 - 1  # NumPy's Philox takes seeds up to SEEDS
TARGETS, NO_DECAY = r"attention/(query|value)$", r"(bias|norm/gamma|norm/beta)$"
EPOCHS, POWER, LENGTH, LONGEST, WARMUP_PART = 3.0, 2.0, 256, 1024, 10  # LONGEST as in transformers' scripts
# What stands for "decide it"; in a run that goes on it is decided already, but for what may change.
UNDECIDED = {"learning_rate": None, "schedule_power": None, "warmup_steps": -1, "max_length": 0, "document": "auto",
             "pack": "auto", "eval_every": 0, "save_every": 0}
# Another value than the recorded one leaves these out of the record, which it excludes or decides.
REPLACED = {"model": ("init",), "init": ("model", "tokenizer", "lowercase"), "steps": ("epochs",),
            "epochs": ("steps",), "eval_data": ("eval_fraction",), "eval_fraction": ("eval_data",),
            "schedule": ("schedule_power",), "next_sentence": ("pack",),
            "task": ("document", "next_sentence", "whole_word", "pack")}
# In a run that goes on: must be the same; may change, and is the recorded one if not given; is not recorded's at all.
SAME, FREE, ANEW = "same", "free", "anew"
_KINDS = {int: (numbers.Integral, "an integer"), float: (numbers.Real, "a finite number"),
          bool: (bool, "true or false"), str: ((str, os.PathLike), "a string"),
          tuple: ((list, tuple), "a list of strings")}


def setting(default, meaning, *, resumed=SAME, before=None, tasks=None, begins=None, **limits):
    """Return the dataclass field of a setting.

    Args:
        default: value where nobody gave one; None where there is none, or it depends.
        meaning: str, the text of --help.
        resumed: SAME, FREE or ANEW, in a run that goes on.
        before: what runs did before there was the setting, where release 0.1.0 did not have it.
        tasks: tuple of the tasks that have it, None for all. begins: str, the group of --help that it begins.
        limits: `allowed`, a tuple of str; or `lower` and `upper`, numbers.
    """
    return dataclasses.field(default=default, metadata={"meaning": meaning, "resumed": resumed, "before": before,
                                                        "tasks": tasks, "begins": begins, **limits})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of all settings; each field says in its metadata what it means. Made by `resolve`.

    Example:
        >>> settings = Settings.resolve({"task": "classification", "model": "bert_tiny", "tokenizer": "bytes",
        ...                              "data": "reviews.jsonl", "output_dir": "runs/reviews"})
        >>> settings.learning_rate, settings.epochs, settings.with_epoch(batches=100).steps
        (0.0005, 3.0, 300)
    """

    task: str = setting(None, "What the model learns.", allowed=PRETRAINING + FINETUNING, begins="what")
    model: str = setting(
        None, "A model's name, to train from scratch: python -m experiments.models lists them. The vocabulary sets its "
        "vocab_size.")
    init: str = setting(
        None, "What to start from instead: the folder of a finished run (or its model/), one of Hugging Face's "
        "transformers with safetensors, hf:ID of their hub, or keras_nlp:PRESET.")
    dropout: float = setting(None, "The rate of dropout; without it the model's own.", lower=0.0, upper=0.99)
    override: tuple = setting(
        (), "An argument of the model as name=value, for instance num_layers=3; may be given several times.")

    data: str = setting(
        None, "A file (.jsonl .tsv .csv .txt, of tagging .conll .jsonl, each also .gz), a folder of them (those named "
        "train), builtin:python (docstrings of the installed Python), builtin:python_source (its source), or "
        "tfds:NAME.",
        resumed=FREE, begins="data")  # the SHA-256 of what it holds must be the same
    eval_data: str = setting(
        None, "Where the evaluation examples come from; without it the evaluation part of --data: a folder's eval, "
        "dev, valid, validation or else test, TFDS' validation or test, the built-in one.", resumed=FREE)
    eval_fraction: float = setting(
        0.0, "Or: a random share of --data that is kept for evaluation.", lower=0.0, upper=0.9)
    max_length: int = setting(
        0, "Tokens of an example, special ones included; longer ones are cut, and counted. 0: as --init was trained "
        f"with (others' up to {LONGEST}); from scratch {LENGTH}, or less where the model has fewer positions.", lower=0)
    max_bad_rows: int = setting(0, "Up to this many rows that cannot be read are skipped.", lower=0)
    allow_download: bool = setting(False, "Let tfds:NAME use the network.", resumed=ANEW)
    document: str = setting(
        "auto", "What is one document in a .txt. auto: file for causal_lm, else paragraph.",
        allowed=("auto", "paragraph", "line", "file"), before="paragraph", tasks=PRETRAINING)
    tokenizer: str = setting(
        None, "A vocabulary file or folder, learn:wordpiece:SIZE, learn:bpe:SIZE (from the training data), or bytes; "
        "comes along with --init.")
    lowercase: str = setting(
        "auto", "Lower-case and strip accents (WordPiece). auto: as the vocabulary's folder says, else whether it has "
        "no capitals; learned vocabularies: true.", allowed=("auto", "true", "false"))
    next_sentence: bool = setting(
        False, "masked_lm: also predict whether the second half follows the first.", before=False, tasks=("masked_lm",))
    whole_word: bool = setting(
        False, "masked_lm: mask all the pieces of a word together.", before=False, tasks=("masked_lm",))
    pack: str = setting(
        "auto", "masked_lm: put several documents in one row, where each sees only itself. auto: on without "
        "--next_sentence.", allowed=("auto", "on", "off"), before="off", tasks=("masked_lm",))

    method: str = setting(
        "full", " ".join(f"{name}: {facts['about']}" for name, facts in sorted(METHODS.items())),
        allowed=tuple(sorted(METHODS)), before="full", begins="method")
    rank: int = setting(8, "lora: the rank of the adapters.", before=8, lower=1)
    alpha: float = setting(8.0, "lora: what an adapter computes is scaled by alpha / rank.", before=8.0, lower=0.0)
    adapter_dropout: float = setting(
        0.0, "lora: the rate of dropout on the adapters' inputs.", before=0.0, lower=0.0, upper=0.99)
    targets: str = setting(
        TARGETS, "lora: a regular expression, searched in the paths of the projections: those where it is found get an "
        "adapter.", before=TARGETS)

    batch_size: int = setting(32, "Examples of one update (of the whole batch).", lower=1, begins="optimization")
    epochs: float = setting(
        None, f"Passes over the training data; without it and --steps: {EPOCHS:g}.", resumed=FREE, lower=1e-6)
    steps: int = setting(None, "Updates, instead of --epochs.", resumed=FREE, lower=1)
    optimizer: str = setting(
        "adamw", "bert_adamw: without bias correction, as Google's BERT; lamb: for large batches; adafactor: factored "
        "second moments.", allowed=("adamw", "bert_adamw", "lamb", "adafactor"))
    learning_rate: float = setting(
        None, f"The highest learning rate; without it {RATE_FROM_INIT:g} with --init, {RATE_FROM_SCRATCH:g} from "
        "scratch" + "".join(f", {facts['learning_rate']:g} with --method={name}" for name, facts in METHODS.items()
                            if facts.get("learning_rate")) + ".", lower=0.0)
    schedule: str = setting(
        "linear", "How the learning rate falls after the warm-up.",
        allowed=("linear", "cosine", "polynomial", "inverse_sqrt", "constant"))
    schedule_power: float = setting(
        None, f"The power of --schedule=polynomial; without it {POWER:g}.", lower=0.0)
    warmup_steps: int = setting(-1, f"Updates over which it rises; -1: one in {WARMUP_PART} of all.", lower=-1)
    weight_decay: float = setting(0.01, "Decoupled weight decay.", lower=0.0)
    no_decay: str = setting(
        NO_DECAY, "A regular expression: weights in whose path it is found do not decay.", before=NO_DECAY)
    layer_decay: float = setting(
        1.0, "The learning rate of each layer is that of the one above times this.", before=1.0, lower=0.01, upper=1.0)
    ema_decay: float = setting(
        0.0, "Evaluate and keep an exponential moving average of the weights with this decay; 0: the weights "
        "themselves.", before=0.0, lower=0.0, upper=0.999999)
    clip_norm: float = setting(1.0, "The largest global norm of the gradient; 0 for no clipping.", lower=0.0)
    accumulate_steps: int = setting(
        1, "Parts of a batch that are computed one after the other, to save memory; the update is the same.",
        resumed=FREE, lower=1)
    remat: bool = setting(
        False, "Rematerialize: compute the blocks' insides again in the backward pass, to save memory.", resumed=FREE)
    max_bad_steps: int = setting(
        10, "This many updates in a row with a loss or gradient that is not finite end the run; each is skipped and "
        "logged.", resumed=FREE, lower=1)
    patience: int = setting(
        0, "This many evaluations in a row without a better one end the run; 0: never.", lower=0)

    output_dir: str = setting(
        None, "The run's folder; a run that was stopped goes on from it.", resumed=ANEW, begins="running")
    strategy: str = setting(
        "auto", "one_device; mirrored: all GPUs of this machine; multi_worker: several processes, from TF_CONFIG or "
        "Slurm; tpu. auto: multi_worker where TF_CONFIG or Slurm names several workers, mirrored where there are "
        "several devices.", resumed=ANEW)
    virtual_devices: int = setting(
        0, "Divide the CPU into this many devices, to try --strategy=mirrored.", resumed=ANEW, lower=0)
    precision: str = setting(
        "float32", "float32, or bfloat16: Keras' mixed_bfloat16, weights stay float32.",
        allowed=("float32", "bfloat16"))
    xla: str = setting("auto", "Compile forward and backward. auto: on a GPU or TPU.", resumed=ANEW,
                       allowed=("auto", "on", "off"))
    seed: int = setting(0, "Decides weights, order, masks and dropout.", lower=0, upper=SEEDS)
    eval_every: int = setting(0, "Steps between evaluations; 0: once an epoch.", resumed=FREE, lower=0)
    save_every: int = setting(0, "Steps between checkpoints; 0: as often as evaluations.", resumed=FREE, lower=0)
    log_every: int = setting(50, "Steps between lines of metrics.jsonl.", resumed=FREE, lower=1)
    keep: int = setting(2, "How many of the newest checkpoints stay, beside the best one.", resumed=FREE, lower=1)
    resume: str = setting(
        "auto", "auto: go on where the folder's run stands; never: refuse a folder with a run; must: refuse one "
        "without.", resumed=ANEW, allowed=("auto", "never", "must"))
    deterministic: bool = setting(False, "The same bits in every run on the same machine.")

    @classmethod
    def resolve(cls, given, recorded=None):
        """Decide all that the data need not be known for.

        Args:
            given: dict of name to value, as `checked` returned it; None stands for not given.
            recorded: dict, config.json of the run that goes on, as `in_effect` gives it; None for a new one.

        Returns:
            Settings; steps, warmup_steps, max_length, eval_every and save_every may be open yet.

        Raises:
            ConfigError: for settings that exclude each other or that a task does not have, or missing ones.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if "epochs" in given and "steps" in given:
            _refuse(f"--epochs={given['epochs']} and --steps={given['steps']}: give one of them")
        values = {field.name: field.default for field in dataclasses.fields(cls)} | given
        if recorded is not None:
            values |= cls._kept(given, recorded)
        settings = cls(**values)
        settings._check()
        return settings._decided()

    @classmethod
    def _kept(cls, given, there):
        """Return what a run that goes on has of its record: all that nobody gave another value."""
        there = {**there, "override": tuple(there.get("override", ()))}

        def meaning(name, value):  # however it is spelled
            if name == "override":
                return cls(override=value).overrides()
            path = name in ("init", "tokenizer") and value  # of a run's folder its model/ is what is read
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
            _refuse(f"--model={self.model} and --init={self.init}: give one of them, a name to train from scratch or a "
                    "folder to start from")
        if self.eval_data and self.eval_fraction:
            _refuse(f"--eval_data={self.eval_data} and --eval_fraction={self.eval_fraction}: give one of them")
        if self.init and (self.tokenizer or self.lowercase != "auto"):
            _refuse("--init brings its own tokenizer: omit --tokenizer and --lowercase")
        if self.model and not self.tokenizer:
            _refuse("--tokenizer is missing: needed with --model; a vocabulary, learn:wordpiece:8000 or bytes")
        if self.schedule_power is not None and self.schedule != "polynomial":
            _refuse(f"--schedule_power={self.schedule_power} is for --schedule=polynomial: got "
                    f"--schedule={self.schedule}")
        for name in {name for facts in METHODS.values() for name in facts["arguments"]} & vars(self).keys():
            having = [method for method, facts in METHODS.items() if name in facts["arguments"]]
            if self.method not in having and getattr(self, name) != FIELDS[name].default:
                _refuse(f"--{name}={getattr(self, name)} is for --method={' or '.join(having)}: got "
                        f"--method={self.method}")
        if METHODS[self.method].get("pretrained") and not self.init:
            _refuse(f"--method={self.method} adapts a pretrained model: give --init instead of --model={self.model}")
        if self.task != "masked_lm" and (self.next_sentence or self.whole_word):
            _refuse(f"--next_sentence and --whole_word are for --task=masked_lm: got --task={self.task}")
        if self.document not in ("auto", "paragraph") and self.task not in PRETRAINING:
            _refuse(f"--document={self.document} is for --task={' or '.join(PRETRAINING)}: got --task={self.task}")
        if self.pack == "on" and not self._can_pack:
            _refuse(f"--pack=on is for --task=masked_lm without --next_sentence: got --task={self.task}"
                    f"{' --next_sentence' if self.next_sentence else ''}; causal_lm's rows are always full")
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
            positions: int, those of the model.
            trained: int or None, the length that --init was trained with.

        Raises:
            ConfigError: more than the positions.
        """
        if self.max_length > positions:
            _refuse(f"--max_length={self.max_length}: the model has {positions} positions; lower it, or train from "
                    f"scratch with --override=max_length={self.max_length}")
        return dataclasses.replace(self, max_length=self.max_length or min(positions, trained or LENGTH))

    def with_epoch(self, batches):
        """Return Settings with steps, warmup_steps, eval_every and save_every decided, for so many batches an epoch."""
        steps = self.steps or max(1, math.ceil(self.epochs * batches))
        every = self.eval_every or batches
        return dataclasses.replace(
            self, steps=steps, eval_every=every, save_every=self.save_every or every,
            warmup_steps=self.warmup_steps if self.warmup_steps >= 0 else steps // WARMUP_PART)

    def overrides(self):
        """Return the model's arguments of --override and --dropout: a dict; raises ConfigError for no name=value."""
        overrides = {}
        for text in self.override:
            name, equals, value = text.partition("=")
            if not equals or not name:
                _refuse(f"--override={text}: allowed is name=value, for instance num_layers=3")
            try:
                overrides[name] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                overrides[name] = value
        return overrides if self.dropout is None else {**overrides, "dropout": self.dropout}

    def of(self, facts):
        """Return the settings that a task or method takes, by the facts of TASKS or METHODS: dict; on is True."""
        values = {name: getattr(self, name) for name in facts["arguments"] if name in vars(self)}
        return {name: {"on": True, "off": False}.get(value, value) for name, value in values.items()}

    def config(self):
        """Return what config.json records: dict of JSON values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                if field.name != "allow_download"}

    def flags(self):
        """Return the settings that the task has as --flagfile reads them, one a line; those undecided decide again."""
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
    """Return settings as plain values of their types.

    Args:
        given: dict of name to value; NumPy's numbers, paths and lists are taken too.

    Raises:
        ConfigError: for a name that no setting has, with the near ones; for a value of another type or out of range.
    """
    for name in given:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, 3)
            _refuse(f"unknown setting {name!r}: " + (f"did you mean {' or '.join(near)}?" if near else
                                                     f"allowed are {', '.join(FIELDS)}"))
    return {name: _plain(name, value) for name, value in given.items()}


def document_of(task, document="auto"):
    """Return what one document in a .txt is, where --document leaves it to the task."""
    return document if document != "auto" else "file" if task == "causal_lm" else "paragraph"


def _plain(name, value):
    """Return a value of a setting as its own type; refuses others."""
    field = FIELDS[name]
    limits, (kinds, allowed) = field.metadata, _KINDS[field.type]
    if value is None and field.default is None:
        return None
    right = isinstance(value, kinds) and (field.type is bool or not isinstance(value, bool))
    if right := right and (field.type is not tuple or all(isinstance(item, str) for item in value)):
        value = os.fspath(value) if field.type is str else field.type(value)
    if "allowed" in limits:
        right, allowed = right and value in limits["allowed"], " or ".join(limits["allowed"])
    if "lower" in limits:
        upper = limits.get("upper")
        right = right and limits["lower"] <= value < math.inf and (upper is None or value <= upper)
        allowed += f" from {limits['lower']}" + ("" if upper is None else f" to {upper}")
    if not right:
        _refuse(f"--{name}={value}: allowed is {allowed}")
    return value


def _refuse(message):
    from tfzoo.errors import ConfigError  # in here, as it would import TensorFlow
    raise ConfigError(message)
