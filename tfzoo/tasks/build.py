"""Build models by name, with or without a task's head."""
from tfzoo.errors import ConfigError, shown
from tfzoo.models import build_body, family_of
from tfzoo.tasks.model import TaskModel
from tfzoo.tasks.registry import task_of


def put_head(body, name, task, rate):
    """Combine a body and a newly initialized head into a TaskModel.

    Args:
        body: Body.
        name: str, the model name that the body was built from.
        task: Task.
        rate: float, dropout rate before the head's projection.
    """
    return TaskModel(body, task.head(body, rate), task, name=f"{name}_{task.name}")


def build_for(name, task, dtype=None, **overrides):
    """Build a newly initialized model for a Task; see `build` for the other arguments and the errors."""
    task.check_family(name)
    family = family_of(name)
    body = build_body(name, dtype=dtype, **{**task.body_arguments(family.body), **overrides})
    rate = family.head_dropout(task.name, body.config["dropout"], overrides.get("dropout"))
    return put_head(body, name, task=task, rate=rate)


def build(name, task=None, labels=None, dtype=None, **overrides):
    """Build a model with newly initialized weights.

    Args:
        name: str, from `tfzoo.list_models`.
        task: str, a name from `tfzoo.tasks.tasks`; None for the bare body.
        labels: list of str, for classification and tagging.
        dtype: str, "float32" or "mixed_bfloat16"; None for Keras' global policy.
        overrides: model arguments that replace those of the named size.

    Returns:
        A keras.Model: the body, or a TaskModel with `logits` among its outputs.

    Raises:
        ConfigError: if the name, the task or an argument is unknown.

    Example:
        >>> model = build("bert_tiny", task="classification", labels=["bad", "good"], vocab_size=1000)
        >>> model({"token_ids": np.array([[5, 6, 7]])})["logits"].shape
        TensorShape([1, 2])
    """
    if task is None:
        if labels is not None:
            raise ConfigError(f"labels are {shown(labels)}, but no task is given: give a task as well, or omit them")
        return build_body(name, dtype=dtype, **overrides)
    return build_for(name, task_of(task, labels), dtype, **overrides)
