"""Sources from files, folders, TFDS and the installed Python: their content, and the data they reject."""
import ast
import json
import shutil

import numpy as np
import pytest

from tests.helpers import data_dir
from tfzoo.data import builtin
from tfzoo.data.readers import LABELLED, TEXTS, Schema
from tfzoo.data.source import open_source
from tfzoo.data.tfds import read_tfds
from tfzoo.errors import ConfigError, DataError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_folder_gives_its_parts(tmp_path):
    write(tmp_path / "train.jsonl", [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    write(tmp_path / "dev.jsonl", [{"text": "c", "label": "x"}])
    assert open_source(str(tmp_path)).columns == {"text": ["a", "b"], "label": ["x", "y"]}
    assert open_source(str(tmp_path), split="eval").columns["text"] == ["c"]
    (tmp_path / "dev.jsonl").unlink()
    assert open_source(str(tmp_path), split="eval") is None


def test_the_fingerprint_sees_every_change(tmp_path):
    path = tmp_path / "a.jsonl"
    prints = set()
    for rows in ([{"text": "ab", "label": "x"}], [{"text": "a", "label": "x"}], [{"text": "ab", "label": "y"}],
                 [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}]):
        write(path, rows)
        prints.add(open_source(str(path)).fingerprint)
    assert len(prints) == 4


def test_labels_are_sorted_by_value_and_unknown_ones_refused(tmp_path):
    source = open_source(write(tmp_path / "a.jsonl", [{"text": "a", "label": 10}, {"text": "b", "label": 9}]))
    assert source.labels() == ["9", "10"]
    assert source.label_ids(["9", "10"]).tolist() == [1, 0]
    with pytest.raises(DataError, match="unknown label '10' in .*example 1.*expected one of 9, 8"):
        source.label_ids(["9", "8"])


@pytest.mark.parametrize("labels, expected", [
    (["--1", "2", "-3"], ["--1", "-3", "2"]), (["1", "01", "-0", "0", "001"], ["-0", "0", "001", "01", "1"]),
    (["\u00b2", "1"], ["1", "\u00b2"]), (["\u0661", "3", "2"], ["\u0661", "2", "3"]),
    (["1e5", "nan"], ["1e5", "nan"]), (["-", "1", "True"], ["-", "1", "True"]), (["9" * 5000, "1"], ["1", "9" * 5000]),
    ([2, "10", -1], ["-1", "2", "10"])])
def test_labels_are_strings_whatever_numbers_they_look_like(tmp_path, labels, expected):
    rows = [{"text": "a", "label": label} for label in labels]
    for order in (rows, rows[::-1]):
        source = open_source(write(tmp_path / "a.jsonl", order))
        assert source.labels() == expected
        assert source.label_ids(expected).tolist() == [expected.index(str(row["label"])) for row in order]


def test_the_evaluation_share_is_apart_from_training():
    source = open_source(str(data_dir() / "sentiment_rt" / "eval.jsonl"))
    train, evaluation = source.split(0.1, seed=3)
    assert len(evaluation) == 106 and len(train) == 956
    texts = sorted(train.texts[0] + evaluation.texts[0])
    assert texts == sorted(source.texts[0])
    assert source.split(0.1, seed=3)[1].fingerprint == evaluation.fingerprint != source.split(0.1, 4)[1].fingerprint


def test_raw_bytes_are_known_where_the_examples_hold_the_whole_file():
    path = data_dir() / "lm_shakespeare" / "eval.txt"
    assert open_source(str(path), TEXTS, document="file").raw_bytes == path.stat().st_size
    assert open_source(str(path), TEXTS, document="paragraph").raw_bytes is None


@pytest.mark.parametrize("rows, error", [([], DataError), ([{"text": "a", "label": "x", "text_pair": "b"},
                                                            {"text": "a", "label": "x"}], DataError)])
def test_empty_and_mixed_data_are_refused(tmp_path, rows, error):
    with pytest.raises(error):
        open_source(write(tmp_path / "a.jsonl", rows))


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data at"):
        open_source(str(tmp_path / "none.jsonl"))
    with pytest.raises(FileNotFoundError, match="--allow_download"):
        open_source("tfds:no_such_thing")
    with pytest.raises(ConfigError, match="builtin:python"):
        open_source("builtin:perl")
    with pytest.raises(DataError, match="no data files"):
        open_source(str(tmp_path))


def test_tfds_reads_what_is_prepared_locally(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                "premise": tfds.features.Text(), "hypothesis": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["no", "yes"])}))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(3), "validation": self._generate_examples(1),
                    "test": self._generate_examples(4)}

        def _generate_examples(self, count):
            for number in range(count):
                label = number % 2 if number < 3 else -1
                yield number, {"premise": f"p{number}", "hypothesis": f"h{number}", "label": label}

    Tiny(data_dir=tmp_path).download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    train = open_source("tfds:tiny")
    assert sorted(zip(*train.columns.values())) == [("p0", "h0", "no"), ("p1", "h1", "yes"), ("p2", "h2", "no")]
    assert len(open_source("tfds:tiny:1.0.0", split="eval")) == 1
    # A row without a label (-1) does not belong to the last class, which ClassLabel.int2str(-1) would return.
    with pytest.raises(DataError, match=r"tfds:tiny example \d: no label \(-1\); required: text and label"):
        read_tfds("tiny", LABELLED, ("test",))
    assert len(read_tfds("tiny", LABELLED, ("test",), max_bad_rows=1)) == 3
    assert len(read_tfds("tiny", TEXTS, ("test",))) == 4
    shutil.copytree(tmp_path / "tiny", tmp_path / "two" / "one")
    shutil.copytree(tmp_path / "tiny", tmp_path / "two" / "other")
    with pytest.raises(ConfigError, match="tfds:two is prepared as two/one, two/other: choose one of them"):
        open_source("tfds:two")
    assert len(open_source("tfds:two/other")) == 3
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket")
    with pytest.raises(ConfigError, match="TFDS_DATA_DIR is gs://bucket"):
        open_source("tfds:tiny")


@pytest.fixture(scope="module")
def small_python():
    """Read only two libraries; the quickstart reads all of them."""
    libraries, builtin.LIBRARIES = builtin.LIBRARIES, ("numpy", "keras_hub")
    yield
    builtin.LIBRARIES = libraries


def test_docstrings_are_found_wherever_there_are_statements_in_the_order_of_ast_walk():
    code = "\n".join(["'module'", "if x:", "    def one(): 'one'", "else:", "    try: pass", "    except E:",
                      "        class Two:", "            'two'", "            async def three(): 'three'",
                      "    finally:", "        def four(f=lambda: 0): 'four'", "match x:", "    case 1:",
                      "        with y:", "            def five():", "                'five'",
                      "                while z:", "                    def six(): 'six'"])
    tree = ast.walk(ast.parse(code))
    expected = [ast.get_docstring(node) for node in tree if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef,
                                                                              ast.AsyncFunctionDef))]
    assert list(builtin._docstrings(code)) == expected and len(expected) == 7


@pytest.mark.slow
def test_builtin_parts_share_no_text_and_no_module(small_python):
    train, evaluation = (open_source("builtin:python", split=split) for split in ("train", "eval"))
    assert train.labels() == evaluation.labels() == ["keras_hub", "numpy", "stdlib"]
    assert len(train) > 8 * len(evaluation) > 400
    assert not set(train.texts[0]) & set(evaluation.texts[0])
    prose = open_source("builtin:python", TEXTS)
    assert any("\n" in text for text in prose.texts[0]) and not any("\n" in text for text in train.texts[0])
    import json.decoder
    side = builtin.is_eval("stdlib/json/decoder.py")
    text = json.decoder.JSONDecoder.__doc__.strip().split("\n")[0]
    found = {split: any(text in row for row in open_source("builtin:python", TEXTS, split).texts[0])
             for split in ("train", "eval")}
    assert found == {"train": not side, "eval": side}


def test_builtin_source_is_code(small_python):
    rows = open_source("builtin:python_source", TEXTS, "eval").texts[0]
    assert np.mean(["import" in text or "def " in text for text in rows]) > 0.9


def test_labelled_source_is_the_code_of_some_modules_of_each_library(small_python, monkeypatch):
    monkeypatch.setattr(builtin, "MODULES", 60)
    train, evaluation = (open_source("builtin:python_source", split=split) for split in ("train", "eval"))
    assert train.labels() == ["keras_hub", "numpy", "stdlib"] and 100 < len(train) + len(evaluation) <= 180
    assert not set(train.texts[0]) & set(evaluation.texts[0])
    for text in train.texts[0]:  # no licence and no import comes first
        assert text.startswith(("class ", "def ", "async def ", "@")) and len(text) <= builtin.CHARACTERS
    monkeypatch.setattr(builtin, "LIBRARIES", ("numpy",))
    fewer = open_source("builtin:python_source", split="train")  # another library changes no text of these
    assert fewer.texts[0] == [text for text, label in zip(train.texts[0], train.columns["label"])
                              if label != "keras_hub"]


def test_builtin_functions_have_the_first_lines_of_their_docstrings(small_python, monkeypatch):
    from tfzoo.data import functions
    rows = [["stdlib/a.py", 'def f(x):\n    """Add one to x.\n\n    More.\n    """\n', "    return x + 1"],
            ["stdlib/a.py", 'def g():\n    """Too short."""\n', "    pass"],
            ["numpy/b.py", 'def h():\n    """Add one to x."""\n', "    return 2"],
            *([f"numpy/{number}.py", f'def f{number}():\n    """Return the number {number}."""\n', "    pass"]
              for number in range(40))]
    monkeypatch.setattr(functions, "_rows", lambda: rows)
    schema = Schema(inputs=("source",), targets=("target",))
    train, evaluation = ([row for row in zip(*open_source("builtin:python", schema, split).columns.values())]
                         for split in ("train", "eval"))
    assert len(train) + len(evaluation) == 41 and not {*sum(train, ())} & {*sum(evaluation, ())}
    assert 0 < len(evaluation) < 10 and ("def f7():\n    pass", "Return the number 7.") in train + evaluation
    alone = [builtin.read_builtin("python_source", schema, split) for split in ("train", "eval")]
    assert sum(alone, []) == [{"source": "def f(x):\n    return x + 1", "target": "Add one to x."}]


def test_builtin_is_read_again_where_the_cache_cannot_be_written(tmp_path, monkeypatch, small_python):
    some = list(builtin.modules_of("python"))[:100]
    monkeypatch.setattr(builtin, "modules_of", lambda name: some)
    (tmp_path / "file").write_text("")
    one = open_source("builtin:python", split="eval")
    monkeypatch.setenv("TFZOO_CACHE", str(tmp_path / "file"))
    assert len(one) > 0 and open_source("builtin:python", split="eval").fingerprint == one.fingerprint
