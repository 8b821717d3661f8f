"""Tasks by name: every named Task subclass in a module of this package."""
import functools
import importlib
import inspect
import pkgutil

from tfzoo.errors import ConfigError, shown
from tfzoo.tasks.task import Task


def named(package, base):
    """Return the named subclasses of `base` in the modules of a package: dict of name -> class, sorted."""
    modules = [importlib.import_module(f"{package}.{info.name}")
               for info in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    kinds = {kind for module in modules for kind in vars(module).values()
             if isinstance(kind, type) and issubclass(kind, base) and kind.name}
    return {kind.name: kind for kind in sorted(kinds, key=lambda kind: kind.name)}


@functools.lru_cache(maxsize=1)
def tasks():
    """Return the tasks: dict of name -> class, sorted."""
    return named(__package__, Task)


def task_of(name, labels=None, **settings):
    """Create a task by name.

    Args:
        name: str, one of `tasks()`.
        labels: list of str in the order of the logits; only for tasks that require labels.
        settings: arguments of the task, for example next_sentence for masked_lm.

    Returns:
        Task.

    Raises:
        ConfigError: if the name or a setting is unknown, there are fewer than two labels or duplicate ones, or labels
            are given to a task that takes none.
    """
    if name not in tasks():
        raise ConfigError(f"unknown task {name!r}: choose from {', '.join(tasks())}")
    kind = tasks()[name]
    known = set(inspect.signature(kind).parameters) - {"labels"}
    if settings.keys() - known:
        raise ConfigError(f"{name} has no setting {min(settings.keys() - known)!r}: its settings are "
                          f"{', '.join(sorted(known)) or 'none'}")
    if not kind.labelled:
        if labels is not None:
            raise ConfigError(f"{name} takes no labels, got {shown(labels)}")
        return kind(**settings)
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels) or \
            len(set(labels)) < 2 or len(set(labels)) != len(labels):
        raise ConfigError(f"labels must be a list of at least two different names for {name}, got {shown(labels)}")
    return kind(labels, **settings)
