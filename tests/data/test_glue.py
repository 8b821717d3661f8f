"""GLUE's files with their original columns, CLUE's JSON lines, and tfds:glue/NAME."""
import json

import numpy as np
import pytest

from tfzoo.data.source import open_source
from tfzoo.errors import ConfigError, DataError
from tfzoo.tasks import tasks

CLASSES, NUMBERS = tasks()["classification"].schema, tasks()["regression"].schema
# Task -> (header or None, a row, what is read).
FILES = {
    "CoLA": (None, "gj04\t1\t\tOur friends won't buy this.", ("Our friends won't buy this.", None, "1")),
    "SST-2": ("sentence\tlabel", "hide new secretions \t0", ("hide new secretions ", None, "0")),
    "MRPC": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", '1\t70\t71\tHe said "yes\tShe did',
             ('He said "yes', "She did", "1")),
    "QQP": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\tWhy?\tHow?\t0", ("Why?", "How?", "0")),
    "MNLI": ("index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
             "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
             "0\t1\t1n\tfiction\t(a)\t(b)\t(c)\t(d)\tIt is.\tIt was.\tneutral\tentailment",
             ("It is.", "It was.", "entailment")),
    "QNLI": ("index\tquestion\tsentence\tlabel", "0\tWhen?\tThen.\tnot_entailment",
             ("When?", "Then.", "not_entailment")),
    "RTE": ("index\tsentence1\tsentence2\tlabel", "0\tA.\tB.\tentailment", ("A.", "B.", "entailment")),
    "WNLI": ("index\tsentence1\tsentence2\tlabel", "0\tA.\tB.\t1", ("A.", "B.", "1"))}


def row_of(source):
    """Return (text, text_pair or None, label or value) of the first row."""
    return tuple(source.columns.get(name, [None])[0] for name in (
        "text", "text_pair", "value" if "value" in source.columns else "label"))


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_read_by_its_own_columns(name, tmp_path):
    header, row, expected = FILES[name]
    (tmp_path / "train.tsv").write_text("".join(line + "\n" for line in (header, row, row) if line))
    source = open_source(tmp_path, CLASSES)
    assert len(source) == 2 and row_of(source) == expected


def test_sts_b_is_a_regression_and_test_files_never_train(tmp_path):
    header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
    row = "0\tm\tf\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t4.750"
    (tmp_path / "train.tsv").write_text(f"{header}\tscore\n{row}\n")
    (tmp_path / "test.tsv").write_text(f"{header}\n0\tm\tf\t2012\t1\tnone\tnone\tA.\tB.\n")
    assert row_of(open_source(tmp_path / "train.tsv", NUMBERS)) == ("A plane.", "An air plane.", 4.75)
    assert len(open_source(tmp_path, NUMBERS)) == 1
    with pytest.raises(DataError, match="no column is named label"):  # a score is no class
        open_source(tmp_path / "train.tsv", CLASSES)
    from tfzoo.data.readers import Lines, read_rows
    assert list(read_rows(Lines(tmp_path / "test.tsv"), NUMBERS, labelled=False)) == [{"text": "A.", "text_pair": "B."}]


@pytest.mark.parametrize("record, expected", [
    ({"sentence1": "甲", "sentence2": "乙", "label": "0"}, ("甲", "乙", "0")),  # AFQMC
    ({"label": "102", "label_desc": "news_entertainment", "sentence": "甲"}, ("甲", None, "102")),  # TNEWS
    ({"label_desc": "news_entertainment", "sentence": "甲"}, ("甲", None, "news_entertainment")),
    ({"label_des": "打车", "sentence": "甲"}, ("甲", None, "打车")),  # IFLYTEK
    ({"sentence": "own", "text": "mine", "label": "x"}, ("mine", None, "x"))])
def test_clue_s_json_lines(record, expected, tmp_path):
    (tmp_path / "train.json.jsonl").write_text(json.dumps(record) + "\n")
    assert row_of(open_source(tmp_path / "train.json.jsonl", CLASSES)) == expected


def test_pairs_without_agreement_are_bad_rows(tmp_path):
    good = {"sentence1": "a", "sentence2": "b", "gold_label": "neutral"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (good, {**good, "gold_label": "-"})))
    (tmp_path / "a.tsv").write_text("sentence1\tsentence2\tgold_label\na\tb\tneutral\na\tb\t-\n")
    for name, line in (("a.jsonl", 2), ("a.tsv", 3)):
        with pytest.raises(DataError, match=f"{name} line {line}: no value for label"):
            open_source(tmp_path / name, CLASSES)
        assert open_source(tmp_path / name, CLASSES, max_bad_rows=1).skipped == 1
    (tmp_path / "own.tsv").write_text("text\tlabel\na\t-\n")
    assert open_source(tmp_path / "own.tsv", CLASSES).columns["label"] == ["-"]


def test_tfds_glue(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds
    text, number = tfds.features.Text(), tfds.features.Scalar(np.float32)
    classes = tfds.features.ClassLabel(names=["no", "yes"])
    kinds = {"cola": {"sentence": text, "label": classes},
             "qnli": {"question": text, "sentence": text, "label": classes},
             "stsb": {"sentence1": text, "sentence2": text, "label": number},
             "mnli": {"premise": text, "hypothesis": text, "label": classes}}

    class Glue(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in kinds]

        def _info(self):
            features = {**kinds[self.builder_config.name], "idx": np.int32}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            parts = ("_matched", "_mismatched") if self.builder_config.name == "mnli" else ("",)
            return {"train": self._generate_examples("train", 2), **{
                f"{split}{part}": self._generate_examples(f"{split}{part}", 1) for part in parts
                for split in ("validation", "test")}}

        def _generate_examples(self, split, count):
            for number in range(count):
                features = kinds[self.builder_config.name]
                label = -1 if "test" in split else 3.5 if self.builder_config.name == "stsb" else 1
                yield number, {**{key: f"{split} {key}" for key in features}, "label": label, "idx": number}

    for name in kinds:
        Glue(config=name, data_dir=tmp_path).download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert row_of(open_source("tfds:glue/cola", CLASSES)) == ("train sentence", None, "yes")
    assert row_of(open_source("tfds:glue/qnli", CLASSES)) == ("train question", "train sentence", "yes")
    assert row_of(open_source("tfds:glue/stsb", NUMBERS)) == ("train sentence1", "train sentence2", 3.5)
    assert row_of(open_source("tfds:glue/stsb", NUMBERS, "eval"))[0] == "validation sentence1"
    assert row_of(open_source("tfds:glue/mnli", CLASSES, "eval")) == (
        "validation_matched premise", "validation_matched hypothesis", "yes")
    assert len(open_source("tfds:glue/mnli", CLASSES)) == 2
    for name, schema, says in (("cola", CLASSES, r"example 1: no label \(-1\)"),
                               ("stsb", NUMBERS, "the labels of its test split are not public: all are -1")):
        with pytest.raises(DataError, match=f"tfds:glue/{name}:? {says}"):
            open_source(f"tfds:glue/{name}", schema, "test")
    for name, schema, kind in (("cola", NUMBERS, "number"), ("stsb", CLASSES, "class label")):
        with pytest.raises(ConfigError, match=f"expected one or two texts and a {kind} named label"):
            open_source(f"tfds:glue/{name}", schema)
