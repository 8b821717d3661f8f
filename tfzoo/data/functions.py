"""Functions of the installed Python with their docstrings: prompts to complete with the functions' bodies, or the code
without the docstring as a source, and the first line of the docstring as its target.

As in `builtin`, modules are assigned to training or evaluation by a hash of their name, and the two parts have no
function in common.
"""
import ast
import textwrap

from tfzoo.data.builtin import collect, hash_of, is_eval, modules_of

FORMAT = 2
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


def _rows():
    # List of (module, prompt, completion).
    return [(module, *pair) for _, module, pair in collect(
        "functions", [FORMAT, LONGEST], modules_of("python"), _functions)]


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
