"""Examples in the documentation run: the README's Python block, examples in docstrings, and flags in flagfiles."""
import doctest
import importlib
import pkgutil
import re

import numpy as np
import pytest

import tfzoo
from tests.golden import families
from tests.helpers import CHECKOUT

MODULES = [module.name for module in pkgutil.walk_packages(tfzoo.__path__, "tfzoo.")]


def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    block = re.search(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.S)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["logits"].shape == (2, 2) and (tmp_path / "model.keras").is_file()


def test_every_public_name_is_on_the_api_page_with_an_example():
    page = (CHECKOUT / "docs" / "api.md").read_text()
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.S | re.M))
    packages = [name for name in MODULES if name.count(".") == 1 and hasattr(importlib.import_module(name), "__all__")]
    for package in ("tfzoo", *packages):
        listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", sections[package], re.M)))
        assert sorted(listed) == sorted(importlib.import_module(package).__all__), package
        code = re.search(r"```python\n(.*?)```", sections[package], re.S)[1]
        assert all(re.search(rf"\b{name}\(|\b{name}\b", code) for name in listed), package


@pytest.mark.slow
def test_the_api_page_s_examples_run(tmp_path, monkeypatch):
    page = (CHECKOUT / "docs" / "api.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", page, re.S)), "docs/api.md", "exec"), {})


def test_the_parity_table_has_every_case_within_its_bound():
    rows = re.findall(r"^\| (\w[\w.]*) \| [^|]+ \| (\w+) \|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$",
                      (CHECKOUT / "docs" / "models.md").read_text(), re.M)
    assert [row[:2] for row in rows[1:]] == list(families.CASES)
    assert all(float(number) <= 1e-5 for row in rows[1:] for number in row[2:] if number.strip())


def test_links_of_the_pages_lead_somewhere():
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")):
        for target in re.findall(r"\[[^]]+\]\((?!http)([\w./]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short():
    assert len((CHECKOUT / "README.md").read_text().splitlines()) < 200


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
