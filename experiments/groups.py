"""The flags that several scripts share: the same word with the same meaning everywhere.

The allowed words stand here again, so that --help and a wrong flag need not wait for TensorFlow; a test holds them
equal to the library's.
"""
DOCUMENTS = ["paragraph", "line", "file"]
OPTIMIZERS = ["adamw", "bert_adamw", "lamb", "adafactor"]
SCHEDULES = ["linear", "cosine", "polynomial", "inverse_sqrt", "constant"]
STRATEGIES = ["auto", "one_device", "mirrored", "multi_worker", "tpu"]
RESUME = ["auto", "never", "must"]
NO_DECAY = r"(bias|norm/gamma|norm/beta)$"


def what(script, tasks):
    """Add which model and task; `tasks` are the script's."""
    script.group("what")
    script.add("enum", "task", tasks[0], f"What the model learns: {', '.join(tasks)}.", allowed=list(tasks))
    script.add("string", "model", None, "A model's name, to train from scratch: python -m experiments.models "
               "lists them. The vocabulary sets its vocab_size.")
    script.add("string", "init", None, "What to start from instead: the folder of a finished run (or its model/), one "
               "of Hugging Face's transformers with safetensors, hf:ID of their hub, or keras_nlp:PRESET.")
    script.add("float", "dropout", None, "The share of dropout; without it the model's own.", lower_bound=0.0,
               upper_bound=0.99)
    script.add("multi_string", "override", [], "An argument of the model as name=value, for instance num_layers=3; "
               "may be given several times.")


def data(script, required=True):
    """Add where examples come from."""
    script.group("data")
    script.add("string", "data", None, "A file (.jsonl .tsv .csv .txt, each also .gz), a folder of them (its train.*), "
               "builtin:python (docstrings of the installed Python), builtin:python_source (its source), or tfds:NAME.",
               required=required)
    script.add("string", "eval_data", None, "Where the evaluation examples come from; without it the evaluation part "
               "of --data: a folder's eval.*, TFDS' validation or test, the built-in one.")
    script.add("float", "eval_fraction", 0.0, "Or: a random share of --data that is kept for evaluation.",
               lower_bound=0.0, upper_bound=0.9)
    script.add("integer", "max_length", 0, "Tokens of an example, special ones included; longer ones are cut, and "
               "counted. 0: as --init was trained with; from scratch 256, or less where the model has fewer positions.",
               lower_bound=0)
    script.add("integer", "max_bad_rows", 0, "So many rows that cannot be read are skipped.", lower_bound=0)
    script.add("bool", "allow_download", False, "Let tfds:NAME use the network.")


def texts(script):
    """Add how text becomes tokens."""
    script.add("string", "tokenizer", None, "A vocabulary file or folder, learn:wordpiece:SIZE, learn:bpe:SIZE (from "
               "the training data), or bytes; comes along with --init.")
    script.add("enum", "lowercase", "auto", "Lower-case and strip accents (WordPiece). auto: as the vocabulary's "
               "folder says, else whether it holds no capitals; learned vocabularies: true.",
               allowed=["auto", "true", "false"])


def document(script):
    """Add what is a document of plain text."""
    script.add("enum", "document", "auto", "What is one document in a .txt. auto: file for causal_lm, else paragraph.",
               allowed=["auto", *DOCUMENTS])


def optimization(script):
    """Add how the weights are updated."""
    script.group("optimization")
    script.add("integer", "batch_size", 32, "Examples of one update (of the whole batch).", lower_bound=1)
    script.add("float", "epochs", None, "Passes over the training data; without it and --steps: 3.",
               lower_bound=0.0)
    script.add("integer", "steps", None, "Updates, instead of --epochs.", lower_bound=1)
    script.add("enum", "optimizer", "adamw", "bert_adamw: without bias correction, as Google's BERT; lamb: for large "
               "batches; adafactor: factored second moments.", allowed=OPTIMIZERS)
    script.add("float", "learning_rate", None, "The highest learning rate; without it 5e-5 with --init and 5e-4 from "
               "scratch.", lower_bound=0.0)
    script.add("enum", "schedule", "linear", "How the learning rate falls after the warm-up.", allowed=SCHEDULES)
    script.add("float", "schedule_power", None, "The power of --schedule=polynomial; without it 2.", lower_bound=0.0)
    script.add("integer", "warmup_steps", -1, "Updates over which it rises; -1 is a tenth of all.", lower_bound=-1)
    script.add("float", "weight_decay", 0.01, "Decoupled weight decay.", lower_bound=0.0)
    script.add("string", "no_decay", NO_DECAY, "A regular expression: weights in whose path it is found do not decay.")
    script.add("float", "layer_decay", 1.0, "The learning rate of each layer is that of the one above times this.",
               lower_bound=0.01, upper_bound=1.0)
    script.add("float", "ema_decay", 0.0, "Evaluate and keep an exponential moving average of the weights with this "
               "decay; 0: the weights themselves.", lower_bound=0.0, upper_bound=0.999999)
    script.add("float", "clip_norm", 1.0, "The largest global norm of the gradient; 0 for no clipping.",
               lower_bound=0.0)
    script.add("integer", "accumulate_steps", 1, "Parts of a batch that are computed one after the other, to save "
               "memory; the update is the same.", lower_bound=1)
    script.add("bool", "remat", False, "Compute the blocks' insides again in the backward pass, to save memory.")
    script.add("integer", "max_bad_steps", 10, "So many updates in a row with a loss or gradient that is not finite "
               "end the run; each is skipped and logged.", lower_bound=1)
    script.add("integer", "patience", 0, "So many evaluations without a better one end the run; 0: never.",
               lower_bound=0)


def running(script):
    """Add where and how a training run lives."""
    script.group("running")
    script.add("string", "output_dir", None, "The run's folder; a run that was stopped goes on from it.", required=True)
    script.add("string", "strategy", "auto", "one_device; mirrored: all GPUs of this machine; multi_worker: several "
               "processes, from TF_CONFIG or Slurm; tpu. auto: multi_worker where TF_CONFIG names several workers, "
               "mirrored where there are several devices.")
    script.add("integer", "virtual_devices", 0, "Divide the CPU into so many devices, to try --strategy=mirrored.",
               lower_bound=0)
    precision(script)
    script.add("integer", "seed", 0, "Decides weights, order, masks and dropout.", lower_bound=0)
    script.add("integer", "eval_every", 0, "Steps between evaluations; 0: once an epoch.", lower_bound=0)
    script.add("integer", "save_every", 0, "Steps between checkpoints; 0: as often as evaluations.", lower_bound=0)
    script.add("integer", "log_every", 50, "Steps between lines of metrics.jsonl.", lower_bound=1)
    script.add("integer", "keep", 2, "So many of the newest checkpoints stay, and the best one.", lower_bound=1)
    script.add("enum", "resume", "auto", "auto: go on where the folder's run stands; never: refuse a folder with a "
               "run; must: refuse one without.", allowed=RESUME)
    script.add("bool", "deterministic", False, "The same bits in every run on the same machine.")


def precision(script):
    """Add what numbers are computed with."""
    script.add("enum", "precision", "float32", "float32, or bfloat16: Keras' mixed_bfloat16, weights stay float32.",
               allowed=["float32", "bfloat16"])
    script.add("enum", "xla", "auto", "Compile forward and backward. auto: on a GPU or TPU.",
               allowed=["auto", "on", "off"])


def computing(script):
    """Add what numbers a saved model computes with."""
    script.add("enum", "precision", "auto", "auto: what it was trained with; or float32, bfloat16.",
               allowed=["auto", "float32", "bfloat16"])
    script.add("enum", "xla", "auto", "Compile the forward pass. auto: on a GPU or TPU.", allowed=["auto", "on", "off"])


def loading(script, about="The folder of a finished run, or its model/; or one of Hugging Face's transformers with "
            "safetensors, hf:ID of their hub, or keras_nlp:PRESET."):
    """Add the model to use."""
    script.group("what")
    script.add("string", "init", None, about, required=True)
