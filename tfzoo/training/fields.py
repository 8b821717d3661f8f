"""The settings of training: one field per flag, with its type, default, limits and help text.

This module imports nothing of tfzoo: the scripts load it by itself, so --help and flag errors appear immediately.
"""
import ast
import dataclasses
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
# The tasks that take an argument of this name.
POOLED, WEIGHTED = (tuple(name for name, facts in TASKS.items() if argument in facts["arguments"])
                    for argument in ("pooling", "class_weights"))
PRETRAINING, FINETUNING = (
    tuple(name for name, facts in TASKS.items() if script in (facts.get("script") or "").split())
    for script in ("pretrain", "finetune"))
SMOOTHED = ("causal_lm", "masked_lm", "classification", "tagging", "question_answering", "seq2seq", "completion",
            "multiple_choice")
POLICIES = {"auto": None, "float32": "float32", "bfloat16": "mixed_bfloat16"}  # dtype policy of a --precision
RATE_FROM_INIT, RATE_FROM_SCRATCH, SEEDS = 5e-5, 5e-4, 2 ** 64 - 1  # SEEDS: the largest seed of NumPy's Philox
TARGETS, NO_DECAY = r"attention/(query|value)$", r"(bias|norm/gamma|norm/beta)$"
EPOCHS, POWER, LENGTH, LONGEST, WARMUP_PART, GROUP = 3.0, 2.0, 256, 1024, 10, 32  # LONGEST as in transformers' scripts
# On resume, a setting must be unchanged; may change (default: the recorded value); or is not read from config.json.
SAME, FREE, ANEW = "same", "free", "anew"


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
class Fields:
    """The fields of `settings.Settings`, which adds what they mean together; each help text is in the metadata."""

    task: str = setting(
        None, "What the model learns.", allowed=tuple(dict.fromkeys(PRETRAINING + FINETUNING)), begins="what")
    model: str = setting(
        None, "Name of a model to train from scratch (python -m experiments.models lists them); its vocab_size is set "
        "from the vocabulary.")
    init: str = setting(
        None, "Pretrained weights to start from instead: the folder of a finished run (or its model/), a Hugging Face "
        "transformers folder with safetensors, hf:ID from the Hugging Face hub, or keras_nlp:PRESET.")
    dropout: float = setting(None, "Dropout rate; default: the model's own.", lower=0.0, upper=0.99)
    override: tuple = setting((), "A model argument as name=value, for example num_layers=3; may be repeated.")

    data: str = setting(
        None, "A file (.jsonl, .tsv, .csv or .txt; for tagging .conll, .conllu or .jsonl; for question_answering "
        ".jsonl or SQuAD's .json; all may be gzipped), a folder of such files (those named train), builtin:python "
        "(docstrings of the installed Python), builtin:python_source (its source code), or tfds:NAME.",
        resumed=FREE, begins="data")  # the SHA-256 of the contents must be the same
    eval_data: str = setting(
        None, "Evaluation data. Default: the evaluation split of --data: a folder's eval, dev, valid, validation or, "
        "failing those, test files; tfds:NAME's validation or test split; or the built-in one, if any.", resumed=FREE)
    test_data: str = setting(
        None, "Data on which the final model is evaluated once (a file, or the test split of a folder or tfds:NAME); "
        "its metrics are named test_... in the results.", resumed=FREE)
    eval_fraction: float = setting(
        0.0, "Fraction of --data to hold out at random for evaluation, instead of --eval_data.", lower=0.0, upper=0.9)
    max_length: int = setting(
        0, "Maximum number of tokens per example, including special tokens; longer examples are truncated and counted. "
        f"0: the length that --init was trained with (at most {LONGEST} for models from other libraries); from scratch "
        f"{LENGTH}, or the model's number of positions if smaller.", lower=0)
    overlap: int = setting(
        None, "tagging, question_answering, classification with --long=windows: longer texts are split into windows "
        "that share this many tokens; default: a quarter of a window.",
        tasks=("tagging", "question_answering", "classification"), lower=0)
    long: str = setting(
        "cut", "classification: cut truncates texts longer than max_length; windows splits them into windows, each a "
        "row of a batch, which together weigh as much as one text, and predicts from all of them.",
        allowed=("cut", "windows"), before="cut", tasks=("classification",))
    long_pooling: str = setting(
        "mean", "classification with --long=windows: how the logits of a text's windows are combined.",
        allowed=("mean", "max"), before="mean", tasks=("classification",))
    max_target_length: int = setting(
        0, "seq2seq: maximum number of tokens per target, including the end token, in training and generation; "
        "longer targets are truncated and counted; 0: the same as --max_length. completion: maximum number of tokens "
        "to generate; 0: half of --max_length.", before=0, tasks=("completion", "seq2seq"), lower=0)
    num_beams: int = setting(
        1, "seq2seq, completion: number of beams in evaluation and prediction; 1: greedy.", before=1,
        tasks=("completion", "seq2seq"), lower=1, upper=1000)
    length_penalty: float = setting(
        1.0, "seq2seq, completion: with several beams, a text's score is its log-probability / length ** this.",
        before=1.0, tasks=("completion", "seq2seq"))
    no_repeat_ngram_size: int = setting(
        0, "seq2seq, completion: no sequence of this many tokens occurs twice in a generated text; 0: no limit.",
        before=0, tasks=("completion", "seq2seq"), lower=0)
    source_prefix: str = setting(
        "", "seq2seq: text to put before each source, such as T5's \"summarize: \"; kept with the model.", before="",
        tasks=("seq2seq",))
    target_language: str = setting(
        "auto", "seq2seq: language code of the targets, for BLEU's tokenizer. auto: recognizes Chinese (zh), Japanese "
        "and Korean (both scored by character); all others are tokenized by 13a.", before="auto", tasks=("seq2seq",))
    max_answer: int = setting(
        30, "question_answering: maximum number of tokens of an answer.", before=30, tasks=("question_answering",),
        lower=1)
    null_threshold: float = setting(
        None, "question_answering: answer \"\" if the score of no answer exceeds that of the best answer by more than "
        "this. Default: if the training data have questions without answers, the threshold with the best f1 in the "
        "run's best evaluation; otherwise never.", tasks=("question_answering",))
    scoring: str = setting(
        "auto", "question_answering: rules of exact match and F1. auto: cmrc2018 if most letters of the contexts are "
        "Chinese, Japanese or Korean, otherwise squad.", before="auto", tasks=("question_answering",),
        allowed=("auto", "squad", "cmrc2018"))
    context: int = setting(
        0, "tagging: add up to this many tokens of the neighboring sentences of a document on each side.", before=0,
        tasks=("tagging",), lower=0)
    max_bad_rows: int = setting(0, "Skip up to this many unreadable rows.", lower=0)
    allow_download: bool = setting(False, "Allow tfds:NAME to download data.", resumed=ANEW)
    document: str = setting(
        "auto", "What counts as one document in a .txt file. auto: file for causal_lm, otherwise paragraph.",
        allowed=("auto", "paragraph", "line", "file"), before="paragraph",
        tasks=tuple(name for name in PRETRAINING if name not in FINETUNING))  # the others read rows
    decoding: str = setting(
        "viterbi", "tagging: viterbi: the most probable sequence of tags that encodes entities; argmax: the most "
        "probable tag of each word.", allowed=("viterbi", "argmax"), before="argmax", tasks=("tagging",))
    strict: bool = setting(
        False, "tagging: score only predicted entities whose tags are valid in the scheme of the labels, such as IOB2, "
        "instead of all that conlleval reads.", before=False, tasks=("tagging",))
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
    segmentation: str = setting(
        "none", "masked_lm with --whole_word: where words of Chinese text begin. spaces: at spaces in the data; jieba: "
        "as the package jieba segments it; none: every character is a word.",
        allowed=("none", "spaces", "jieba"), before="none", tasks=("masked_lm",))
    pack: str = setting(
        "auto", "masked_lm, completion: pack several documents or examples into one row, without attention between "
        "them. auto: on unless --next_sentence is set.", allowed=("auto", "on", "off"), before="off",
        tasks=("masked_lm", "completion"))

    pooling: str = setting(
        "auto", f"{', '.join(POOLED)}: the vector of a text is the first token's hidden state, or the mean or maximum "
        "over all tokens. auto: the pooler's vector, or in decoders the last token's; for contrastive, as in the "
        "sentence-transformers folder or contrastive model given as --init, otherwise mean.",
        allowed=("auto", "first", "mean", "max"), before="auto", tasks=POOLED)
    class_weights: tuple = setting(
        (), f"{', '.join(WEIGHTED)}: LABEL=WEIGHT, the weight in training of rows with this label (multi_label: of the "
        "label in these rows), or auto: inverse to the label's frequency; may be repeated. The loss is the mean over "
        "weights, so only their ratios matter.", before=(), tasks=WEIGHTED)
    similarity_temperature: float = setting(
        0.05, "contrastive: cosine similarities are divided by this.", before=0.05, tasks=("contrastive",), lower=1e-4)
    group_size: int = setting(
        None, "contrastive: the negatives of a row are the other texts of its group of this many rows, so the update "
        "does not depend on devices and microbatches, whose rows it must divide; default: 32, or --batch_size if that "
        "is smaller.", tasks=("contrastive",), lower=1)
    min_score: float = setting(
        None, "contrastive: the score (label) of a pair that is learned as cosine 0; default: the smallest in --data.",
        tasks=("contrastive",))
    max_score: float = setting(
        None, "contrastive: the score that is learned as cosine 1; default: the largest in --data.",
        tasks=("contrastive",))

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
    batch_tokens: int = setting(
        0, "seq2seq: up to this many tokens per update, in sources and targets together, padding included, instead of "
        "--batch_size examples; a multiple of 8 examples. --batch_size then applies to evaluation alone. 0: none.",
        before=0, tasks=("seq2seq",), lower=0)
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
    average_checkpoints: int = setting(
        0, "The final model is the mean of this many newest checkpoints, which are kept, instead of the best one; "
        "0: no mean.", before=0, resumed=FREE, lower=0)
    l1: tuple = setting(
        (), "PATTERN=COEFFICIENT: add the coefficient x the sum of absolute values to the loss that is minimized, but "
        "not to the one reported, for trained weights whose path contains a match of this regular expression; may be "
        "repeated.", before=())
    l2: tuple = setting((), "The same with the sum of squares, for example head/=0.01.", before=())
    clip_norm: float = setting(1.0, "Clip the gradient to this global norm; 0: no clipping.", lower=0.0)
    label_smoothing: float = setting(
        0.0, "Cross-entropy: target probability to move from the label to all other labels or words, in equal parts, "
        "as in fairseq; the reported loss is not smoothed.", before=0.0, tasks=SMOOTHED, lower=0.0, upper=0.99)
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
