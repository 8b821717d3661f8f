"""The documents' examples run: README's Python block, the examples in docstrings, the flags in the flagfiles."""
import doctest
import importlib
import pkgutil
import re

import numpy as np
import pytest

import tfzoo
from tests.helpers import CHECKOUT

MODULES = [module.name for module in pkgutil.walk_packages(tfzoo.__path__, "tfzoo.")]


def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    block = re.search(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.S)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["logits"].shape == (2, 2) and (tmp_path / "model.keras").is_file()


def test_the_readme_s_first_bash_blocks_are_quickstart_and_tests():
    first, second = re.findall(r"```bash\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.S)[:2]
    assert first.splitlines()[-1] == "python -m experiments.quickstart"
    assert second.splitlines()[-1] == "python -m pytest"


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": np, "tfzoo": tfzoo}, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


FLAGFILES = sorted((CHECKOUT / "experiments" / "flags").glob("*.flags"))
NEEDED = {"pretrain": ["--data=x", "--output_dir=x"], "finetune": ["--data=x", "--output_dir=x"],
          "generate": ["--init=x"]}


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_parse_and_tell_their_cost(path):
    text = path.read_text()
    name = re.search(r"# command:  python -m experiments\.(\w+) --flagfile=experiments/flags/(\S+)", text)
    assert name[2] == path.name and "# hardware:" in text and "expected:" in text and "@" not in text
    script = importlib.import_module(f"experiments.{name[1]}").make_flags()
    script.parse([f"--flagfile={path}", *NEEDED[name[1]]])
