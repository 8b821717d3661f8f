"""The built-in functions to complete: documented ones, cut after the docstring, each in one part and valid alone."""
import ast

import pytest

from tfzoo.data import builtin, functions
from tfzoo.data.completions import COMPLETIONS
from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError
from tfzoo.tasks import task_of

MODULE = '''
class Shape:
    @property
    async def area(self,
                   unit="m"):
        """Return the area.

            >>> shape.area()
        """
        # in square metres
        return self.a

    def empty(self):
        """Do nothing."""

    def bare(self):
        return 1

    def one_line(self): "Short."; return 2

def text():
    """A string that reaches the margin."""
    return """
margin"""
'''


@pytest.fixture
def modules(tmp_path, monkeypatch):
    paths = []
    for number in range(40):
        path = tmp_path / f"module_{number}.py"
        path.write_text(MODULE if number == 0 else f'def f():\n    "Return {number // 2}."\n    return {number // 2}\n')
        paths.append(("stdlib", f"stdlib/module_{number}.py", str(path)))
    (tmp_path / "module_39.py").write_text("def (")
    monkeypatch.setattr(functions, "modules_of", lambda name: iter(paths))
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path / "cache"))
    return paths


def test_a_function_is_cut_after_its_docstring(modules):
    train, evaluation = (open_source("builtin:python", COMPLETIONS, split) for split in ("train", "eval"))
    pairs = [tuple(row.values()) for source in (train, evaluation) for row in (source[n] for n in range(len(source)))]
    assert len(pairs) == len(set(pairs)) == 2 + 20 and len(evaluation) >= 1  # 39 short functions, most of them twice
    assert all(ast.parse(prompt + body) for prompt, body in pairs)
    assert ('async def area(self,\n               unit="m"):\n    """Return the area.\n\n        >>> shape.area()\n'
            '    """\n', "    # in square metres\n    return self.a") in pairs
    assert any(body == '    return """\nmargin"""' for _, body in pairs)
    assert {builtin.is_eval(module) for _, module, _ in modules} == {True, False}
    assert functions.read_functions("train") == functions.read_functions("train")  # read from the cache


def test_other_tasks_keep_their_text(modules):
    assert task_of("completion").schema is COMPLETIONS
    with pytest.raises(ConfigError, match="builtin:python_source has no prompt and completion, or messages"):
        open_source("builtin:python_source", COMPLETIONS)
