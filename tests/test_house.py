"""The architecture: which package may import which, flags that match the library's settings, and cheap imports."""
import ast
import dataclasses
import inspect
import subprocess
import sys

import pytest

from experiments import finetune, pretrain
from tests.helpers import CHECKOUT
from tfzoo.data.readers import DOCUMENTS
from tfzoo.methods import METHODS as known_methods
from tfzoo.tasks import tasks as known_tasks
from tfzoo.training.optimizer import OPTIMIZERS, SCHEDULES
from tfzoo.training.run_folder import RESUME
from tfzoo.training.fields import FINETUNING, METHODS, PRETRAINING, TARGETS, TASKS
from tfzoo.training.settings import Settings
from tfzoo.training.strategy import STRATEGIES

# Each package may import the ones before it.
ORDER = ("text", "data", "layers", "models", "generation", "tasks", "methods", "checkpoints", "training",
         "export")
# These import no other package (but litert imports records); each maps to the packages that may import it.
ALONE = {"records": ("text", "data", "generation", "tasks", "checkpoints", "export", "litert"), "metrics": ("tasks",),
         "litert": ("checkpoints", "export")}
FOR_ALL = {"backend", "errors", "files", "folders", "progress"}


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
    below = set() if room in ALONE else set(ORDER[:ORDER.index(room)])
    allowed = below | FOR_ALL | {room} | {name for name, users in ALONE.items() if room in users}
    for path in (CHECKOUT / "tfzoo" / room).rglob("*.py"):
        for module in imports_of(path):
            parts = module.split(".")
            assert parts[0] != "experiments", path
            if parts[0] == "tfzoo" and len(parts) > 1:
                assert parts[1] in allowed, f"{path} imports {module}"
            if room == "tasks" and parts[:2] == ["tfzoo", "models"] and len(parts) > 2:
                assert parts[2] != "families", f"{path} imports the family {module}"


def test_the_scripts_words_are_the_library_s():
    about = {field.name: field.metadata for field in dataclasses.fields(Settings)}
    for name, words in (("document", ("auto", *DOCUMENTS)), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES),
                        ("resume", RESUME)):
        assert about[name]["allowed"] == tuple(words)
    assert all(word in about["strategy"]["meaning"] for word in STRATEGIES)
    for declared, known in ((METHODS, known_methods), (TASKS, known_tasks())):  # as parsed, and as imported
        assert declared.keys() == known.keys()
        for name, facts in declared.items():
            assert all(value == getattr(known[name], key) for key, value in facts.items() if key != "arguments")
            assert facts["arguments"] == list(inspect.signature(known[name]).parameters)
    lora = inspect.signature(known_methods["lora"]).parameters
    assert TARGETS == lora["targets"].default and all(
        Settings.__dataclass_fields__[name].default == lora[name].default
        for name in ("rank", "alpha", "adapter_dropout", "targets"))
    for script, names in (("pretrain", PRETRAINING), ("finetune", FINETUNING)):
        assert set(names) == {name for name, task in known_tasks().items() if script in (task.script or "").split()}


@pytest.mark.parametrize("script, tasks, task", [(pretrain, PRETRAINING, "masked_lm"),
                                                 (finetune, FINETUNING, "classification")])
def test_the_scripts_flags_are_the_library_s_settings(script, tasks, task):
    flags = script.make_flags().parse(["--data=x", "--output_dir=x"])
    fields = [field for field in dataclasses.fields(Settings)
              if field.metadata["tasks"] is None or set(field.metadata["tasks"]) & set(tasks)]
    assert {field.name for field in fields} == set(flags) - {"flagfile", "undefok", "seeds"}
    for field in fields:
        default = task if field.name == "task" else field.default
        assert flags[field.name].default == (list(default) if field.type is tuple else default)


def test_help_does_not_wait_for_tensorflow():
    code = ("import sys; from experiments import finetune; finetune.make_flags().help()\n"
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)


def test_import_registers_no_flag_and_is_quick_beyond_tensorflow_and_keras():
    code = ("import time, tensorflow, keras, tensorflow_text; from absl import flags; before = set(flags.FLAGS)\n"
            "begin = time.perf_counter(); import tfzoo\n"
            "print(time.perf_counter() - begin, set(flags.FLAGS) - before)")
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, new = output.split(" ", 1)
    assert new.strip() == "set()" and float(seconds) < 1.0


def test_files_stay_small():
    for path in [*(CHECKOUT / "tfzoo").rglob("*.py"), *(CHECKOUT / "experiments").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, f"{path} has more than 400 lines"


def code_lines(path):
    """Count the lines of code in a file, excluding blank lines, comments and docstrings."""
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
    print(dict(sorted(storeys.items(), key=lambda item: -item[1])))  # python -m pytest -n 0 -s -k evening
    assert sum(storeys.values()) < 15000


def test_no_data_and_no_weights_are_in_the_checkout():
    folders = ("benchmarks", "docs", "experiments", "tests", "tfzoo")
    files = [path for path in CHECKOUT.iterdir() if path.is_file() and path.name != ".git"]
    files += [path for folder in folders for path in (CHECKOUT / folder).rglob("*")
              if path.is_file() and "__pycache__" not in path.parts]
    large = [str(path.relative_to(CHECKOUT)) for path in files if path.stat().st_size > 400_000]
    strange = [path.name for path in files
               if path.suffix in (".data", ".onnx", ".h5", ".safetensors", ".tflite", ".keras")]
    assert not large and not strange
