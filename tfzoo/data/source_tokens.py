"""The tokens of Python functions, and the role of each in its function: data for tagging."""
import ast
import io
import itertools
import keyword
import tokenize

from tfzoo.data.builtin import collect, is_eval, modules_of

FORMAT = 2
FUNCTIONS, SHORTEST, LONGEST, WIDEST = 12, 8, 120, 60  # per module; tokens per function; characters per token
_KINDS = {tokenize.NUMBER: "number", tokenize.STRING: "string", tokenize.OP: "operator"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def tagged_functions(source):
    """Return the tokens of a module's first functions and methods, without comments, docstrings and decorators.

    Args:
        source: str, the source code of a module.

    Returns:
        List of up to FUNCTIONS pairs of lists of str: tokens and tags. The tags of names depend on the function around
        them: function (where it is defined), parameter, variable (assigned in the function), global, call (a function
        from outside), attribute, method (an attribute that is called), argument (by keyword) and module.

    Raises:
        SyntaxError, ValueError, RecursionError: if the code is not valid in this version of Python.

    Example:
        >>> (tokens, tags), = tagged_functions("def add(one, two=1):\\n    one = abs(one)\\n    return one")
        >>> tokens[:4], tags[:4]
        (['def', 'add', '(', 'one'], ['keyword', 'function', 'operator', 'parameter'])
        >>> tokens[9:13], tags[9:13]
        ([':', 'one', '=', 'abs'], ['operator', 'parameter', 'operator', 'call'])
    """
    lines, found = source.splitlines(keepends=True), []
    tree = ast.parse(source)
    for holder in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))):
        for node in holder.body:
            if isinstance(node, _DEFINITIONS) and len(found) < FUNCTIONS:
                tokens, tags = _tagged(node, lines)
                if SHORTEST <= len(tokens) <= LONGEST and max(map(len, tokens)) <= WIDEST:
                    found.append((tokens, tags))
    return found


def read_tokens(split):
    """Read the functions of the standard library's modules, without duplicates.

    Args:
        split: str, "train" or "eval".

    Returns:
        List of dict of lists of str: `tokens` and `tags` (see `tagged_functions`).
    """
    found = collect("tokens", [FORMAT], modules_of("python_source"), tagged_functions, lambda pair: " ".join(pair[0]))
    return [{"tokens": tokens, "tags": tags} for _, module, (tokens, tags) in found
            if is_eval(module) == (split == "eval")]


def _tagged(function, lines):
    skipped = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    before = function.lineno - 1  # the number of lines before the first
    part = lines[before:function.end_lineno]
    try:
        found = list(tokenize.generate_tokens(io.StringIO("".join(part)).readline))
    except tokenize.TokenError as error:
        raise SyntaxError(str(error)) from None
    roles, tokens, tags = _roles(function, lines), [], []
    for token, following in itertools.pairwise(found):
        row, column = token.start[0] + before, token.start[1]
        if skipped is not None and skipped.lineno <= row <= skipped.end_lineno:
            continue
        if token.type == tokenize.NAME:
            tags.append("keyword" if keyword.iskeyword(token.string) else roles.get((row, column), "variable"))
        elif token.type in _KINDS:
            tags.append(_KINDS[token.type])
        else:
            continue
        tokens.append(token.string)
        if token.string == "def":
            roles[following.start[0] + before, following.start[1]] = "function"
    return tokens, tags


def _roles(function, lines):
    # The roles of names by their place: dict of (line, column in characters) -> str.
    nodes = list(ast.walk(function))
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    assigned |= {node.name for node in nodes[1:] if isinstance(node, (*_DEFINITIONS, ast.ClassDef, ast.ExceptHandler))}
    assigned |= {(node.asname or node.name).split(".")[0] for node in nodes if isinstance(node, ast.alias)}
    called, roles = {id(node.func) for node in nodes if isinstance(node, ast.Call)}, {}

    def place(line, column, name=""):
        return line, len(lines[line - 1].encode()[:column].decode()) - len(name)

    for node in nodes:
        if isinstance(node, ast.arg):
            roles[place(node.lineno, node.col_offset)] = "parameter"
        elif isinstance(node, ast.keyword) and node.arg:
            roles[place(node.lineno, node.col_offset)] = "argument"
        elif isinstance(node, ast.alias):
            roles[place(node.lineno, node.col_offset)] = "module"
        elif isinstance(node, ast.Attribute):
            roles[place(node.end_lineno, node.end_col_offset, node.attr)] = (
                "method" if id(node) in called else "attribute")
        elif isinstance(node, ast.Name):
            roles[place(node.lineno, node.col_offset)] = (
                "parameter" if node.id in parameters else "variable" if node.id in assigned else
                "call" if id(node) in called else "global")
    return roles
