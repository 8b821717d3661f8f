"""The installed Python as a data set that needs no download and ships no text.

The texts are docstrings of the standard library and of some of tfzoo's dependencies, without their tests, or the
source of the standard library. For labels, the first paragraph of a docstring is classified by its library. A hash of
its name puts a module in training or evaluation, and duplicate texts are dropped, so the two parts share neither.
"""
import ast
import hashlib
import importlib.util
import os
import pathlib
import sysconfig

from tfzoo.data.cache import remember
from tfzoo.errors import ConfigError

LIBRARIES = ("tensorflow", "scipy", "sklearn", "keras", "keras_hub", "tensorflow_datasets", "numpy")
NAMES = ("python", "python_source")
SKIPPED_FOLDERS = {"test", "tests", "testing", "site-packages", "dist-packages", "__pycache__", "lib2to3", "idlelib"}
EVAL_SHARE = 10  # one module in EVAL_SHARE is for evaluation
FORMAT = 1


def _modules(name):
    roots = [("stdlib", sysconfig.get_paths()["stdlib"])]
    for library in LIBRARIES if name == "python" else ():
        found = importlib.util.find_spec(library)
        if found is not None:
            roots.append((library, list(found.submodule_search_locations)[0]))
    for library, root in roots:
        for folder, children, names in os.walk(root):
            children[:] = sorted(child for child in children if child not in SKIPPED_FOLDERS)
            for name in sorted(names):
                if name.endswith(".py") and not name.startswith("test_") and not name.endswith("_test.py"):
                    path = os.path.join(folder, name)
                    yield library, f"{library}/{os.path.relpath(path, root)}".replace(os.sep, "/"), path


def is_eval(module):
    """Return whether a module, as "keras/src/layers/layer.py", is in the evaluation part."""
    return int(hashlib.sha256(module.encode()).hexdigest(), 16) % EVAL_SHARE == 0


def _docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and text.strip():
                yield text.strip()


def _read(name, modules):
    rows, seen = [], set()
    for library, module, path in modules:
        try:
            source = pathlib.Path(path).read_text(encoding="utf-8")
            texts = [source] if name == "python_source" else _docstrings(ast.parse(source))
            for text in texts:
                if text.strip() and text not in seen:
                    seen.add(text)
                    rows.append({"module": module, "library": library, "text": text})
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue  # templates and files in other encodings are not valid Python of this version
    return rows


def _cached(name):
    modules = list(_modules(name))
    state = [(module, os.stat(path).st_size, os.stat(path).st_mtime_ns) for _, module, path in modules]
    return remember(f"builtin_{name}", [FORMAT, name, state], lambda: _read(name, modules))


def read_builtin(name, columns, split):
    """Read the built-in data.

    Args:
        name: "python" (docstrings; with labels, their first paragraphs) or "python_source" (whole modules of the
            standard library).
        columns: ("text",) or ("text", "label").
        split: "train" or "eval".

    Returns:
        List of dict of str: text, and label if requested.

    Raises:
        ConfigError: an unknown name, or labels of python_source.
    """
    if name not in NAMES:
        raise ConfigError(f"builtin:{name}: allowed are {', '.join(f'builtin:{known}' for known in NAMES)}")
    if name == "python_source" and "label" in columns:
        raise ConfigError("builtin:python_source has no labels: use builtin:python, which has them")
    everything = _cached(name)
    rows = [row for row in everything if is_eval(row["module"]) == (split == "eval")]
    if "label" not in columns:
        return [{"text": row["text"]} for row in rows]
    # First paragraphs only: whole docstrings name their library too often for a task.
    other = {" ".join(row["text"].split("\n\n")[0].split()) for row in everything if is_eval(row["module"])}
    labelled = {}
    for row in rows:
        text = " ".join(row["text"].split("\n\n")[0].split())
        if split == "eval" or text not in other:
            labelled.setdefault(text, row["library"])
    return [{"text": text, "label": label} for text, label in labelled.items()]
