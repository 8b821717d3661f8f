"""Data sets built from the local Python installation, so nothing needs to be downloaded or bundled.

The texts are either docstrings from the standard library and some of tfzoo's dependencies, excluding tests, or the
source code of the standard library. For classification, each text is the first paragraph of a docstring, or the code
of a module of one of these libraries from its first function or class on, and its label is the library that it comes
from. Modules are assigned to training or evaluation by a hash of their name, and duplicate texts are dropped, so the
two parts have neither modules nor texts in common.
"""
import ast
import collections
import gc
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
MODULES, CHARACTERS = 250, 8000  # limits on labelled source code: modules per library, and characters per module
EVAL_SHARE = 10  # one out of EVAL_SHARE modules is used for evaluation
FORMAT = 2


def modules_of(name):
    """Yield (library, module, path), three str, of each module that a built-in data set reads, sorted."""
    roots = [("stdlib", sysconfig.get_paths()["stdlib"])]
    for library in () if name == "python_source" else LIBRARIES:
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


def hash_of(module):
    """Return the SHA-256 of a module's name as a number: int."""
    return int(hashlib.sha256(module.encode()).hexdigest(), 16)


def is_eval(module):
    """Return whether a module, such as "keras/src/layers/layer.py", is used for evaluation."""
    return hash_of(module) % EVAL_SHARE == 0


def _some(modules):
    # The same random MODULES of each library, whichever others are installed.
    counts = collections.Counter()
    for each in sorted(modules, key=lambda each: hash_of(each[1])):
        counts[each[0]] += 1
        if counts[each[0]] <= MODULES:
            yield each


def _code(source):
    # The lines from the first function or class on: licenses and imports would give the library away.
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield "\n".join(source.splitlines()[first - 1:])[:CHARACTERS]
            return


def _statements(tree):
    # Like ast.walk, in its order, but without expressions, which are most nodes and have no docstrings.
    todo = collections.deque([tree])
    while todo:
        node = todo.popleft()
        yield node
        todo.extend(child for child in ast.iter_child_nodes(node)
                    if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)))


def _docstrings(source):
    for node in _statements(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and text.strip():
                yield text.strip()


def collect(name, settings, modules, extract, identity=lambda item: item):
    """Extract items from the source code of modules; the result is cached until a module changes.

    Args:
        name: str, the name in the cache.
        settings: list, whatever else determines the items.
        modules: iterable of (library, module, path), see `modules_of`.
        extract: callable that maps source code to an iterable of items.
        identity: callable that maps an item to what makes two items equal; only the first of them is kept.

    Returns:
        List of (library, module, item).
    """
    modules = list(modules)

    def read():
        found, collects = {}, gc.isenabled()
        gc.disable()  # half of the time of parsing is a search for cycles in syntax trees, which have none
        try:
            for library, module, path in modules:
                try:
                    for item in list(extract(pathlib.Path(path).read_text(encoding="utf-8"))):
                        found.setdefault(identity(item), (library, module, item))
                except (OSError, ValueError, SyntaxError, RecursionError):
                    continue  # skip templates and other files that are not valid in this version of Python
        finally:
            if collects:
                gc.enable()
        return list(found.values())

    state = [(module, os.stat(path).st_size, os.stat(path).st_mtime_ns) for _, module, path in modules]
    return remember(f"builtin_{name}", [*settings, state], read)


def _texts(name):
    extract = {"python": _docstrings, "python_source": lambda source: [source], "python_code": _code}[name]
    modules = _some(modules_of(name)) if name == "python_code" else modules_of(name)
    return collect(name, [FORMAT, name], modules, lambda source: filter(str.strip, extract(source)))


def read_builtin(name, schema, split):
    """Read a built-in data set.

    Args:
        name: str, "python" (docstrings; their first paragraphs if labels are requested; functions if completions are)
            or "python_source" (whole modules of the standard library or, if labels are requested, the code of up to
            MODULES modules of each library, without what precedes the first function or class, up to CHARACTERS
            characters; or, if tags are, the tokens of functions).
        schema: Schema with the columns text and, optionally, label; or prompt and completion; or tokens and tags; or
            source and target: a function's code, for python_source of the standard library, and the first line of its
            docstring.
        split: str, "train" or "eval".

    Returns:
        List of dict: `text`, and `label` if requested; or the columns of the schema. All are str, except for `tokens`
        and `tags`, lists of str.

    Raises:
        ConfigError: if the name is unknown, or other columns are requested.
    """
    if name not in NAMES:
        raise ConfigError(f"builtin:{name}: choose from {', '.join(f'builtin:{known}' for known in NAMES)}")
    if "completion" in schema.optional_targets and name == "python":
        from tfzoo.data.functions import read_functions
        return read_functions(split)
    if "tags" in schema.optional_targets and name == "python_source":
        from tfzoo.data.source_tokens import read_tokens
        return read_tokens(split)
    columns = schema.columns()
    if set(columns) == {"source", "target"}:
        from tfzoo.data.functions import read_described
        return read_described(split, "stdlib/" if name == "python_source" else "")
    if not {"text"} <= {*columns} <= {"text", "label"}:
        raise ConfigError(f"builtin:{name} has no {schema.required()}: expected a file ending in "
                          f"{' '.join(schema.allowed())}, optionally with .gz, or a folder of such files")
    everything = _texts("python_code" if name == "python_source" and "label" in columns else name)
    rows = [(library, text) for library, module, text in everything if is_eval(module) == (split == "eval")]
    if "label" not in columns:
        return [{"text": text} for _, text in rows]
    if name == "python_source":
        return [{"text": text, "label": library} for library, text in rows]
    # Use first paragraphs only: whole docstrings mention their library too often, which makes the task trivial.
    other = {" ".join(text.split("\n\n")[0].split()) for _, module, text in everything if is_eval(module)}
    labelled = {}
    for library, text in rows:
        text = " ".join(text.split("\n\n")[0].split())
        if split == "eval" or text not in other:
            labelled.setdefault(text, library)
    return [{"text": text, "label": label} for text, label in labelled.items()]
