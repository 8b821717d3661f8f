"""The parity table: load each architecture of transformers, in odd sizes, and compare the outputs with transformers'.

python -m tests.checkpoints.parity --only=qwen2 --write             with the golden files; updates docs/models.md
python -m tests.checkpoints.parity --pytorch_python=PYTHON --seed=7  live, with new random sizes, weights and inputs
"""
import argparse
import functools
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file, save_file

import tfzoo
from tests.golden import families
from tfzoo.checkpoints.huggingface import Names, family_of_type

GOLDEN = pathlib.Path(families.__file__).parent
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "models.md"
TABLE = re.compile(r"\| family \| head .*?\n(?=\n)", re.S)
KINDS = ("in", "hidden", "gradients", "out")
BOUND = 1e-5  # relative, float32


@functools.lru_cache(maxsize=2)
def read_case(path):
    """Return (about, arrays) from a file written by make_families.py."""
    arrays = dict(np.load(path))
    return json.loads(str(arrays.pop("about"))), arrays


def write_folder(about, folder):
    """Write the folder of a case as transformers would, and return its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = families.weights_of(about["shapes"], about["seed"])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(about["config"]))
    return weights


def relative(one, other, least=0.0):
    """Return the largest difference relative to the largest value of `other`, or to `least` if that is larger."""
    one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
    if one.shape != other.shape or not np.isfinite(one).all():
        return np.inf
    difference = float(np.abs(one - other).max())
    return difference and difference / max(float(np.abs(other).max()), least)


def forward(loaded, inputs, arrays, number):
    """Yield (kind, difference) for one batch; padding positions are ignored."""
    stacks = {"hidden": loaded.body.decoder_stack, "encoder_hidden": loaded.body.encoder_stack} \
        if loaded.body.traits.source else {"hidden": loaded.body.stack}
    names = {kind: [name for name in stack.names() if "/" not in name] for kind, stack in stacks.items()}
    body = loaded.body(inputs, keep=[name for kind in names for name in names[kind]])
    outputs = {**body, **(loaded.model(inputs) if loaded.body is not loaded.model else {})}
    # The last hidden state in transformers comes after the final norm.
    last = {"hidden": "sequence", "encoder_hidden": "encoder_sequence"}
    states = {kind: [*(body[name] for name in names[kind][:-1]), body[last[kind]]] for kind in names}
    for key, expected in arrays.items():
        batch, _, name = key.partition(":")
        if batch != str(number):
            continue
        kind, _, layer = name.partition(":")
        found = np.asarray(states[kind][int(layer)] if layer else outputs[name])
        real = families.mask_of(inputs, "encoder" if "encoder" in kind else "decoder").astype(bool)
        if expected.shape[:2] == real.shape and name != "pair_logits" and name != "pooled":
            found, expected = found[real], expected[real]
        yield ("hidden" if layer else "in"), relative(found, expected)


def gradients(loaded, about, inputs, arrays):
    """Return the largest difference in any tensor's gradient, relative to its largest gradient: float.

    The difference for key biases is relative to the largest gradient of all tensors: they shift all scores of a row
    equally, so their gradient is zero except for rounding.
    """
    reference = family_of_type(about["config"]["model_type"]).reference
    head = next(head for head in reference.heads.values() if head.architecture == about["architecture"])
    with tf.GradientTape() as tape:
        logits = loaded.model(inputs)["logits"]
        total = tf.reduce_sum(logits * families.factors_of(logits.shape, families.mask_of(inputs), about["seed"]))
    variables = loaded.model.trainable_variables
    values = dict(zip([variable.path for variable in variables], tape.gradient(total, variables)))
    largest, worst = max(np.abs(arrays[key]).max() for key in arrays if key.startswith("gradient:")), 0.0
    for name, (parts, turned) in Names(reference, head, reference.prefix).plan(variables).items():
        value = np.concatenate([np.asarray(tf.convert_to_tensor(values[part.path])) for part in parts], -1)
        expected = arrays[f"gradient:{name}"]
        assert np.abs(expected).max() > 0 or "key" in name or "position" in name or "token_type" in name, name
        keys = name.endswith("bias") and any(part.path.endswith("key/bias") for part in parts)
        worst = max(worst, relative(value.T if turned else value, expected, float(largest) if keys else 0.0))
    return worst


def differences(path, folder):
    """Return the largest relative differences of a case: dict of kind -> float.

    The kinds are `in` (the loaded model's logits, sequence and pooled outputs), `hidden` (the hidden states of each
    layer), `gradients` (the result of the function `gradients`) and `out` (the saved tensors).
    """
    about, arrays = read_case(path)
    weights = write_folder(about, folder)
    loaded, worst = tfzoo.load(folder), {}
    batches = families.inputs_of(about["config"], about["seed"])
    for number, inputs in enumerate(batches):
        for kind, difference in forward(loaded, inputs, arrays, number):
            worst[kind] = max(worst.get(kind, 0.0), difference)
    if any(key.startswith("gradient:") for key in arrays):
        worst["gradients"] = gradients(loaded, about, batches[-1], arrays)
    tfzoo.save(loaded, folder / "again", format="huggingface")
    again = load_file(folder / "again" / "model.safetensors")
    assert again.keys() == weights.keys(), again.keys() ^ weights.keys()
    worst["out"] = max(relative(again[name], weights[name]) for name in weights)
    tfzoo.save(tfzoo.load(folder / "again"), folder / "twice", format="huggingface")
    for name in ("config.json", "model.safetensors"):
        assert (folder / "again" / name).read_bytes() == (folder / "twice" / name).read_bytes(), name
    return worst


def task_of(source, family, architecture):
    """Return the name of tfzoo's task for the head of an architecture, or "body" if it has none."""
    model_type = read_case(source / f"{family}-{architecture}.npz")[0]["config"]["model_type"]
    heads = family_of_type(model_type).reference.heads
    return next((task.replace("_", " ") for task, head in heads.items() if head.architecture == architecture), "body")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pytorch_python")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="a family in families.CASES; default: all")
    parser.add_argument("--write", action="store_true", help="replace these rows of the table in docs/models.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        source = GOLDEN / "families"
        if args.pytorch_python:
            source = folder / "live"
            subprocess.run([args.pytorch_python, str(GOLDEN / "make_families.py"), f"--seed={args.seed}",
                            f"--out={source}"], check=True, stdout=sys.stderr)
        rows = {}
        for family, architecture in families.CASES:
            if args.only not in (None, family):
                continue
            rows[family, architecture] = differences(source / f"{family}-{architecture}.npz",
                                                     folder / f"{family}-{architecture}")
            print(family, architecture, rows[family, architecture], file=sys.stderr)
        if args.pytorch_python:
            subprocess.run([args.pytorch_python, str(GOLDEN / "make_families.py"), f"--seed={args.seed}",
                            f"--check={folder}"], check=True, stdout=sys.stderr)
        if not rows:
            parser.error(f"--only={args.only}: must be one of {', '.join(dict(families.CASES))}")
        table = [f"| family | head | architecture | {' | '.join(KINDS)} |", "|" + "---|" * (3 + len(KINDS))]
        page, lines = DOCS.read_text(encoding="utf-8"), {}
        for (family, architecture), row in rows.items():
            values = [f"{row[kind]:.0e}" if row.get(kind) else "0" if kind in row else "" for kind in KINDS]
            head = task_of(source, family, architecture)
            lines[family, architecture] = f"| {family} | {head} | {architecture} | {' | '.join(values)} |"
        print("\n".join([*table, *lines.values()]))
        if args.write:
            cells = ([cell.strip() for cell in line.split("|")] for line in TABLE.search(page)[0].splitlines()[2:])
            there = {(cell[1], cell[3]): f"| {' | '.join(cell[1:-1])} |" for cell in cells}
            table += [(there | lines)[case] for case in families.CASES if case in there | lines]
            DOCS.write_text(TABLE.sub(lambda _: "\n".join(table) + "\n", page), encoding="utf-8")
    if any(row["out"] or max(row.values()) > BOUND for row in rows.values()):
        sys.exit(f"a difference is above {BOUND:.0e}, or saved tensors differ from the loaded ones")


if __name__ == "__main__":
    main()
