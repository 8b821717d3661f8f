"""The way from names to models that answer."""
from tfzoo.errors import ConfigError, shown
from tfzoo.models import build_body, family_of
from tfzoo.tasks.model import TaskModel
from tfzoo.tasks.registry import task_of


def put_head(body, name, task, rate):
    """Return a TaskModel of a body with a fresh head, with this dropout before its projection."""
    head = task.head(body, rate)
    return TaskModel(body, head, task, name=f"{name}_{task.name}")


def build_for(name, task, dtype=None, **overrides):
    """Build a model of this name with fresh weights for a Task; arguments and errors as `build`."""
    task.check_family(name)
    family = family_of(name)
    body = build_body(name, dtype=dtype, **{**task.body_arguments(family.body), **overrides})
    rate = family.head_dropout(task.name, body.config["dropout"], overrides.get("dropout"))
    return put_head(body, name, task=task, rate=rate)


def build(name, task=None, labels=None, dtype=None, **overrides):
    """Build a model with fresh weights.

    Args:
        name: str, from `tfzoo.list_models`.
        task: str, see task_of, or None for the bare body.
        labels: list of str for classification and tagging.
        dtype: str, "float32" or "mixed_bfloat16"; None is Keras' global policy.
        overrides: arguments of the model that replace the size's own.

    Returns:
        A keras.Model: the body, or a TaskModel with `logits` among its outputs.

    Raises:
        ConfigError: for an unknown name, task or argument.

    Example:
        >>> model = build("bert_tiny", task="classification", labels=["bad", "good"], vocab_size=1000)
        >>> model({"token_ids": np.array([[5, 6, 7]])})["logits"].shape
        TensorShape([1, 2])
    """
    if task is None:
        if labels is not None:
            raise ConfigError(f"labels are {shown(labels)}, but there is no task: give task too, or omit them")
        return build_body(name, dtype=dtype, **overrides)
    return build_for(name, task_of(task, labels), dtype, **overrides)
