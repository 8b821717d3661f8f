"""Flags shared by several scripts, so that a name has the same meaning in all of them.

The training flags are the library's settings, with the same defaults and descriptions.
"""
import dataclasses
import importlib.util
import pathlib


def _read_fields():
    # Load tfzoo.training.fields by its path: importing its packages would import TensorFlow.
    package = pathlib.Path(importlib.util.find_spec("tfzoo").origin).parent
    spec = importlib.util.spec_from_file_location("fields", package / "training" / "fields.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIELDS = _read_fields()
PRECISIONS = list(FIELDS.POLICIES)
# Name, kind, meaning; no default: the model's own, or the option has no effect.
GENERATION = (
    ("max_new_tokens", "integer", "Generate at most this many tokens. Default: what the model was trained to write, or "
     "200."),
    ("min_new_tokens", "integer", "Generate at least this many tokens."),
    ("temperature", "float", "0: always choose the most likely token; 1: sample from the model's own distribution. "
     "Default: 1 for a language model without beams; 0 for others, unless another option of sampling is given."),
    ("top_k", "integer", "Sample from this many of the most likely tokens; 0: from all."),
    ("top_p", "float", "Nucleus sampling: sample from the most likely tokens whose total probability reaches this."),
    ("min_p", "float", "Sample only from tokens with at least this share of the likeliest token's probability."),
    ("typical_p", "float", "Sample from the tokens with the most typical information, up to this total probability."),
    ("epsilon_cutoff", "float", "Sample only from tokens with at least this probability."),
    ("eta_cutoff", "float", "Sample only from tokens with at least this probability, less where many are likely."),
    ("repetition_penalty", "float", "Divide the scores of tokens that occurred by this; above 1: fewer repetitions."),
    ("encoder_repetition_penalty", "float", "Favor the tokens of the source or prompt by this factor; below 1: avoid."),
    ("presence_penalty", "float", "Subtract this from the scores of tokens in the answer."),
    ("frequency_penalty", "float", "Subtract this from the scores of tokens in the answer, for each occurrence."),
    ("no_repeat_ngram_size", "integer", "No sequence of this many tokens occurs twice; 0: no limit."),
    ("prompt_lookup_num_tokens", "integer", "Propose this many tokens after an earlier occurrence of the last ones and "
     "check them in one step: faster where texts repeat, with the same result; 0: none."),
    ("num_beams", "integer", "Number of beams of beam search; 1: none."),
    ("num_beam_groups", "integer", "Number of groups of beams that differ from each other; requires "
     "--diversity_penalty to have an effect."),
    ("diversity_penalty", "float", "Subtract this from the scores of tokens that earlier groups of beams chose."),
    ("length_penalty", "float", "A beam's score is its log-probability / length ** this; above 0: longer texts."),
    ("num_return_sequences", "integer", "Number of answers for each prompt, each a line of JSON."),
    ("seed", "integer", "Random seed for sampling; prompt number N samples with seed + N. Default: 0."))


def training(script, tasks, default):
    """Add the training settings that apply to any of the given tasks.

    Args:
        script: app.Flags.
        tasks: tuple of str, the tasks that the script allows.
        default: str, the default of --task.
    """
    for field in dataclasses.fields(FIELDS.Fields):
        own, title = field.metadata["tasks"], field.metadata["begins"]
        if title:
            script.group(title)
        if field.name == "task":
            script.add("enum", "task", default, f"{field.metadata['meaning'][:-1]}: {', '.join(tasks)}.",
                       allowed=list(tasks))
        elif own is None or set(own) & set(tasks):
            _add(script, field, required=field.name in ("data", "output_dir"))


def shared(script, *names):
    """Add the named training settings to a script that does not train."""
    for name in names:
        _add(script, FIELDS.Fields.__dataclass_fields__[name])


def _add(script, field, required=False):
    limits = {f"{name}_bound": field.metadata[name] for name in ("lower", "upper") if name in field.metadata}
    kind = {int: "integer", float: "float", bool: "bool", str: "string", tuple: "multi_string"}[field.type]
    if "allowed" in field.metadata:
        kind, limits = "enum", {"allowed": list(field.metadata["allowed"])}
    default = list(field.default) if field.type is tuple else field.default
    script.add(kind, field.name, default, field.metadata["meaning"], required, **limits)


def searching(script):
    """Add the training settings of generation to a script that does not train; None: as in training."""
    for name, kind, lower in (("num_beams", "integer", 1), ("length_penalty", "float", None),
                              ("no_repeat_ngram_size", "integer", 0)):
        script.add(kind, name, None, FIELDS.Fields.__dataclass_fields__[name].metadata["meaning"] +
                   " Default: as in training.", lower_bound=lower)


def generating(script):
    """Add the options of generation; None: the model's own."""
    for name, kind, meaning in GENERATION:
        script.add(kind, name, None, meaning)
    script.add("enum", "early_stopping", None, "With beams: true ends a text when num_beams answers are complete; "
               "false (default) also when the best running beam is worse at its present length; never only when it "
               "cannot become better.", allowed=["true", "false", "never"])
    script.add("multi_string", "bad_words", [], "Text that is never written; repeatable.")
    script.add("multi_string", "stop", [], "End a text with the token that completes this string; repeatable.")
    script.add("string", "regex", None, "Regular expression that the whole text must match (no back-references; "
               "requires pip install \"tfzoo[regex]\").")
    script.add("multi_string", "choices", [], "The text is one of these; repeatable.")


def options_of(values):
    """Return the options of generation that were given: dict."""
    names = [name for name, _, _ in GENERATION]
    given = {name: getattr(values, name) for name in names if getattr(values, name) is not None}
    if values.early_stopping is not None:
        given["early_stopping"] = {"true": True, "false": False}.get(values.early_stopping, values.early_stopping)
    texts = {name: getattr(values, name) for name in ("bad_words", "stop", "regex", "choices")}
    return {**given, **{name: value for name, value in texts.items() if value}}


def precision(script):
    """Add --precision, the floating-point type in which a saved model computes."""
    script.add("enum", "precision", "auto", "Floating-point type to compute in. auto: the type used in training.",
               allowed=PRECISIONS)


def computing(script):
    """Add --precision and --xla."""
    precision(script)
    script.add("enum", "xla", "auto", "Compile the forward pass with XLA. auto: only on a GPU or TPU.",
               allowed=["auto", "on", "off"])


def loading(script, about="Model to use: the folder of a finished run, or one written by tfzoo.save; a transformers or "
            "sentence-transformers folder; hf:ID from the Hugging Face hub; or keras_nlp:PRESET."):
    """Add --init, the model to use."""
    script.group("model")
    script.add("string", "init", None, about, required=True)
