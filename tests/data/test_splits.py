"""Assignment of a folder's files to splits: test rows are never trained on, and no file is ignored silently."""
import pytest

from tfzoo.data.readers import TEXTS
from tfzoo.data.source import open_source
from tfzoo.errors import DataError


def fill(folder, names):
    """Write files, each of which contains its own name as its only text."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "%s"}\n' % name if ".json" in name else name)


def parts_of(folder):
    """Return the texts of the training and evaluation parts."""
    train, evaluation = (open_source(str(folder), TEXTS, split) for split in ("train", "eval"))
    return sorted(train.texts[0]), [] if evaluation is None else sorted(evaluation.texts[0])


@pytest.mark.parametrize("train, evaluation, others", [
    (["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"], [], ["unnamed.jsonl"]),
    (["a.txt", "latest.txt"], ["test-00000-of-00001.txt"], []),  # "test" is not a word in "latest"
    (["a.txt"], ["val.txt"], ["test.txt"]), (["a.txt"], ["valid_1.txt", "VAL-2.txt"], ["testset.txt"]),
    (["b.txt"], ["dev_matched.txt", "dev-mismatched.txt"], ["test_matched.txt"]),
    (["Train.TXT"], ["Validation.txt"], ["TEST.TXT", "notes.txt"]),
    (["TrainingData.txt", "my train 2.txt"], ["evaluation.txt"], ["TestSet.txt"]),
    (["train_1.jsonl", "train_2.txt"], ["eval.txt"], ["dev.txt"]),
    (["corpus.train.00001-of-00002.txt", "corpus.train.00002-of-00002.txt"], ["corpus.dev.txt"], []),
    (["train.txt-00000-of-00001"], ["test.txt-00000-of-00001"], []),
    (["train/a.txt", "train/b.txt"], ["validation/a.txt"], ["test/a.txt", "old/a.txt"]),
    (["a.txt"], [], ["README.txt", ".hidden.txt", ".git/a.txt", "train_notes.md", "LICENSE", "dataset_info.json"]),
    (["www_farodevigo_es.txt"], [], [])])  # datasets once found "dev" in it
def test_names_decide_and_what_is_not_read_is_reported(tmp_path, capsys, train, evaluation, others):
    fill(tmp_path, train + evaluation + others)
    assert parts_of(tmp_path) == (sorted(train), sorted(evaluation))
    lines = [line for line in capsys.readouterr().err.splitlines() if "not used for training or evaluation: " in line]
    missing = {f"{name.split('/')[0]}/" if name.startswith(("old", ".git")) else name for name in others}
    assert len(lines) == bool(others)
    assert not others or set(lines[0].partition("not used for training or evaluation: ")[2].split(", ")) == missing


@pytest.mark.parametrize("names, says", [
    (["train-00001-of-00003.txt", "train-00002-of-00003.txt"], "2 of 3 shards of train.txt"),
    (["train-00000-of-00002.txt"], "1 of 2 shards"), (["a-1-of-2.txt", "a-3-of-2.txt"], "2 of 2 shards"),
    (["train-00000-of-00001.txt", "train-00000-of-00002.txt", "train-00001-of-00002.txt"], "contain the same data"),
    (["train.txt", "train-00000-of-00001.txt"], "contain the same data"), (["a.txt", "A.txt"], "contain the same data"),
    (["train_test_split.txt", "train.txt"], "mentions the splits test and train: rename it to mention only one"),
    (["test/train.txt"], "mentions the splits test and train"),
    (["test.txt", "dev/b.txt"], r"for training \(only dev/b.txt, te")])
def test_what_names_leave_open_is_refused(tmp_path, names, says):
    fill(tmp_path, names)
    with pytest.raises(DataError, match=says) as error:
        open_source(str(tmp_path), TEXTS)
    assert "\n" not in str(error.value)


def test_missing_shards_of_the_part_that_is_not_read_do_not_matter(tmp_path):
    fill(tmp_path, ["train.txt", "dev-00001-of-00002.txt"])
    assert open_source(str(tmp_path), TEXTS).texts[0] == ["train.txt"]
    with pytest.raises(DataError, match="1 of 2 shards"):
        open_source(str(tmp_path), TEXTS, "eval")
