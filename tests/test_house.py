"""The order of the house: who may import whom; the scripts' words are the library's; importing does nothing else."""
import ast
import subprocess
import sys

import pytest

from experiments import groups
from tests.helpers import CHECKOUT
from tfzoo.data.readers import DOCUMENTS
from tfzoo.models import registry
from tfzoo.training.optimizer import NO_DECAY, OPTIMIZERS, SCHEDULES
from tfzoo.training.run_folder import RESUME
from tfzoo.training.strategy import STRATEGIES

BELOW = {"text": set(), "data": set(), "layers": set(), "metrics": set(), "models": {"layers"},
         "tasks": {"text", "data", "layers", "models", "metrics"},
         "methods": {"layers", "models", "tasks"},
         "training": {"text", "data", "layers", "models", "metrics", "tasks", "methods"},
         "checkpoints": {"text", "layers", "models", "tasks", "methods"}, "generation": {"layers", "models", "tasks"},
         "export": {"text", "models", "tasks", "checkpoints"}}
FOR_ALL = {"errors", "files", "progress"}
FAMILIES = {family.name for family in registry.FAMILIES}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", sorted(path.name for path in (CHECKOUT / "tfzoo").iterdir()
                                        if path.is_dir() and not path.name.startswith("__")))
def test_each_room_imports_only_what_is_below_it(room):
    allowed = BELOW[room] | FOR_ALL | {room}
    for path in (CHECKOUT / "tfzoo" / room).rglob("*.py"):
        for module in imports_of(path):
            parts = module.split(".")
            assert parts[0] != "experiments", path
            if parts[0] == "tfzoo" and len(parts) > 1:
                assert parts[1] in allowed, f"{path} imports {module}"
            if room == "tasks" and parts[:2] == ["tfzoo", "models"] and len(parts) > 2:
                assert parts[2] not in FAMILIES, f"{path} imports the family {module}"


def test_the_scripts_words_are_the_library_s():
    assert groups.DOCUMENTS == list(DOCUMENTS) and groups.OPTIMIZERS == list(OPTIMIZERS)
    assert groups.SCHEDULES == list(SCHEDULES) and groups.RESUME == list(RESUME)
    assert groups.STRATEGIES == list(STRATEGIES) and groups.NO_DECAY == NO_DECAY


def test_import_registers_no_flag_and_is_quick_beyond_tensorflow_and_keras():
    code = ("import time, tensorflow, keras, tensorflow_text; from absl import flags; before = set(flags.FLAGS)\n"
            "begin = time.perf_counter(); import tfzoo\n"
            "print(time.perf_counter() - begin, set(flags.FLAGS) - before)")
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, new = output.split(" ", 1)
    assert new.strip() == "set()" and float(seconds) < 1.0


def test_files_stay_small():
    for path in [*(CHECKOUT / "tfzoo").rglob("*.py"), *(CHECKOUT / "experiments").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, f"{path}: over 400 lines wants a reason"


def code_lines(path):
    """Count the lines of a file that are code: no blanks, comments or docstrings."""
    text = path.read_text()
    documented = [node for node in ast.walk(ast.parse(text)) if isinstance(
        node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False) is not None]
    prose = {line for node in documented for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    return sum(bool(line.strip()) and not line.strip().startswith("#") and number not in prose
               for number, line in enumerate(text.splitlines(), 1))


def test_the_library_can_be_read_in_an_evening():
    storeys = {}
    for path in (CHECKOUT / "tfzoo").rglob("*.py"):
        room = path.relative_to(CHECKOUT / "tfzoo").parts[0]
        storeys[room] = storeys.get(room, 0) + code_lines(path)
    print(dict(sorted(storeys.items(), key=lambda item: -item[1])))  # python -m pytest -s -k evening
    assert sum(storeys.values()) < 8000
