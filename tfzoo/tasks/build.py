"""The way from names to models that answer."""
from tfzoo.errors import ConfigError
from tfzoo.models import build_body
from tfzoo.tasks.task import CausalLM, Classification, MaskedLM
from tfzoo.tasks.task_model import TaskModel

TASKS = {"masked_lm": MaskedLM, "causal_lm": CausalLM, "classification": Classification}


def task_of(name, labels=None):
    """Return the task of a name, or raise ConfigError; classification needs two or more labels."""
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}: allowed are {', '.join(TASKS)}")
    if name != "classification":
        return TASKS[name]()
    if not labels or len(labels) < 2:
        raise ConfigError(f"labels are {labels!r}: classification needs two or more")
    return Classification(labels)


def build(name, task=None, labels=None, dtype=None, **overrides):
    """Build a model with fresh weights.

    Args:
        name: str, from `tfzoo.list_models`.
        task: "masked_lm", "causal_lm", "classification" or None for the bare body.
        labels: list of str for classification.
        dtype: str, "float32" or "mixed_bfloat16"; None is Keras' global policy.
        overrides: arguments of the model that replace the size's own.

    Returns:
        A keras.Model: the body, or a TaskModel with `logits` among its outputs.

    Raises:
        ConfigError: for an unknown name, task or argument.

    Example:
        >>> tfzoo.build("bert_tiny", task="classification", labels=["bad", "good"], vocab_size=1000)
    """
    chosen = None if task is None else task_of(task, labels)
    if task == "masked_lm":
        overrides = {"pooler": False, **overrides}
    body = build_body(name, dtype=dtype, **overrides)
    if chosen is None:
        return body
    return TaskModel(body, chosen.head(body.config, labels, body.dtype_policy), name=f"{name}_{task}")
