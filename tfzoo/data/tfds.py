"""Data sets prepared by TensorFlow Datasets (TFDS), read from its data folder; downloads happen only if allowed."""
import os

import numpy as np

from tfzoo import files
from tfzoo.data.readers.lines import skip_bad
from tfzoo.errors import ConfigError, DataError

FIRSTS = ("premise", "question", "sentence1", "question1", "text1", "text_a", "source")


def _prepared(root, name):
    # The folder of the newest prepared version, or None.
    name, _, version = name.partition(":")
    infos = [path.parent for path in (root / name).rglob("dataset_info.json")]
    infos = [path for path in infos if not version or path.name == version]
    configs = sorted({str(path.parent.relative_to(root)) for path in infos})
    if len(configs) > 1:
        raise ConfigError(f"tfds:{name} is prepared as {', '.join(configs)}: choose one of them")
    return max(infos, key=lambda path: [int(part) if part.isdecimal() else -1 for part in path.name.split(".")],
               default=None)


def read_tfds(name, schema, splits, allow_download=False, max_bad_rows=0, on_bad=None):
    """Read a TFDS data set.

    Args:
        name: str, NAME, NAME/CONFIG or NAME:VERSION.
        schema: Schema with the columns text and, optionally, label or value.
        splits: tuple of str, split names in order of preference; the first one that exists is read.
        allow_download: bool, whether to download and prepare the data set if necessary.
        max_bad_rows, on_bad: see `read_rows`. Rows without a label (-1), which occur in SNLI and some test sets, count
            as bad rows.

    Returns:
        List of dict: `text`; `text_pair` if the data set has two texts; and `label` (str) or `value` (float) if
        requested. None if none of `splits` exists and "train" is not among them.

    Raises:
        FileNotFoundError: if the data set is not prepared in $TFDS_DATA_DIR (default ~/tensorflow_datasets) and
            downloads are not allowed.
        DataError: if TFDS cannot prepare the data set, "train" is requested but does not exist, all numbers are -1, or
            there are too many bad rows.
        ConfigError: if the data set does not have one or two texts and the requested label or number; if it is prepared
            in several configs and the name does not include one; or if TFDS_DATA_DIR is not a local path.
        OSError: if the folder cannot be written.
    """
    import tensorflow_datasets as tfds
    columns = schema.columns()
    if not {"text"} <= {*columns} <= {"text", "label", "value"}:
        raise ConfigError(f"tfds:{name} cannot provide {schema.required()}: use a file or folder")
    root = files.local_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets", "TFDS_DATA_DIR")
    folder = _prepared(root, name)
    if folder is None and not allow_download:
        raise FileNotFoundError(f"tfds:{name} is not prepared in {root}: prepare it, set TFDS_DATA_DIR, or allow "
                                "downloads with --allow_download")
    if folder is None:
        try:
            builder = tfds.builder(name, data_dir=root)
            builder.download_and_prepare()
        except Exception as error:  # TFDS propagates any exception raised by its downloaders and parsers
            if failed := files.writing_error(error, f"tfds:{name} in {root}; set TFDS_DATA_DIR to change it"):
                raise failed from None
            raise DataError(f"tfds:{name} cannot be prepared: {str(error).strip().splitlines()[0]}") from error
    else:
        builder = tfds.builder_from_directory(folder)
    # MNLI has validation_matched and validation_mismatched instead of validation: the first is used.
    split = next((name for split in splits for name in sorted(builder.info.splits)
                  if name == split or name == f"{split}_matched"), None)
    if split is None:
        if "train" in splits:
            raise DataError(f"tfds:{name} has only the splits {', '.join(builder.info.splits)}: train is required")
        return None
    texts = [key for key, feature in builder.info.features.items() if isinstance(feature, tfds.features.Text)]
    # TFDS returns features in no particular order, so identify the first text of a pair by its name.
    texts = sorted(set(texts) - {"idx", "id"}, key=lambda key: (key not in FIRSTS, key))
    texts = ["text"] if "text" in texts else texts
    label = dict(builder.info.features).get("label")
    kind = "class label" if "label" in columns else "number" if "value" in columns else None
    right = kind is None or isinstance(label, tfds.features.ClassLabel if "label" in columns else tfds.features.Tensor)
    right = right and (kind != "number" or label.shape == () and np.issubdtype(label.np_dtype, np.floating))
    if not 1 <= len(texts) <= 2 or not right:
        raise ConfigError(f"tfds:{name} has the features {', '.join(builder.info.features)}: expected one or two texts"
                          f"{f' and a {kind} named label' if kind else ''}")

    def found():
        for number, example in enumerate(tfds.as_numpy(builder.as_dataset(split=split)), 1):
            row = {key: example[text].decode("utf-8", "replace") for key, text in zip(("text", "text_pair"), texts)}
            missing = "label" in columns and example["label"] < 0
            if "label" in columns and not missing:
                row["label"] = label.int2str(int(example["label"]))
            if "value" in columns:
                row["value"] = float(example["label"])
            yield number, row, "no label (-1)" if missing else ""

    rows = list(skip_bad(f"tfds:{name}", found(), schema.required(), max_bad_rows, on_bad, unit="example"))
    if "value" in columns and {row["value"] for row in rows} == {-1.0}:  # as in the test split of glue/stsb
        raise DataError(f"tfds:{name}: the labels of its {split} split are not public: all are -1")
    return rows
