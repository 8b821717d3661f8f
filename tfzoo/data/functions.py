"""Functions of the installed Python with their docstrings: prompts to complete with the functions' bodies, or the code
without the docstring as a source, and the first line of the docstring as its target.

As in `builtin`, modules are assigned to training or evaluation by a hash of their name, and the two parts have no
function in common.
"""
import ast
import os
import pathlib
import textwrap

from tfzoo.data.builtin import hash_of, is_eval, modules_of
from tfzoo.data.cache import remember

FORMAT = 1
LONGEST = 1000  # characters of a function; most are shorter
MOST = 20_000  # functions with the first lines of their docstrings


def _functions(source):
    # Yield (signature and docstring, body) of the documented functions in a module, without their indentation.
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and len(node.body) > 1 and ast.get_docstring(node):
            first, middle = node.lineno - 1, node.body[0].end_lineno
            whole = textwrap.dedent("".join(lines[first:node.end_lineno]))
            if len(whole) <= LONGEST and node.body[1].lineno > middle and _is_valid(whole):
                parts = whole.splitlines(keepends=True)
                yield "".join(parts[:middle - first]), "".join(parts[middle - first:]).rstrip()


def _is_valid(source):
    try:
        return bool(ast.parse(source))
    except SyntaxError:  # a string that continues at the margin
        return False


def _read(modules):
    rows, seen = [], set()
    for _, module, path in modules:
        try:
            found = list(_functions(pathlib.Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue  # as in `builtin`
        for pair in found:
            if pair not in seen:
                seen.add(pair)
                rows.append([module, *pair])
    return rows


def _rows():
    # Lists of (module, prompt, completion).
    modules = list(modules_of("python"))
    state = [(module, os.stat(path).st_size, os.stat(path).st_mtime_ns) for _, module, path in modules]
    return remember("builtin_functions", [FORMAT, LONGEST, state], lambda: _read(modules))


def read_functions(split):
    """Read the functions of a split.

    Args:
        split: str, "train" or "eval".

    Returns:
        List of dict of str: `prompt`, a function's signature and docstring, and `completion`, its body.
    """
    return [{"prompt": prompt, "completion": body} for module, prompt, body in _rows()
            if is_eval(module) == (split == "eval")]


def read_described(split, library=""):
    """Read the functions of a split with the first lines of their docstrings, of at least three words.

    Args:
        split: str, "train" or "eval".
        library: str, read only this library, such as "stdlib"; "": all.

    Returns:
        List of up to MOST dict of str, in the order of the modules' hashes: `source`, a function's code without its
        docstring, and `target`. No source and no target occurs twice, not even in different splits.
    """
    found, seen = [], set()
    for module, prompt, body in sorted(_rows(), key=lambda row: hash_of(row[0])):
        node = ast.parse(prompt).body[0]
        source = "".join(prompt.splitlines(keepends=True)[:node.body[0].lineno - 1]) + body
        target = ast.get_docstring(node).strip().split("\n")[0].strip()
        if module.startswith(library) and len(target.split()) > 2 and node.body[0].lineno > node.lineno and \
                not seen & {source, target}:
            seen |= {source, target}
            found.append((module, {"source": source, "target": target}))
    return [row for module, row in found[:MOST] if is_eval(module) == (split == "eval")]
