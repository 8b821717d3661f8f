"""Fuzz checkpoints: files with changed bytes or values must load with the right content, or be refused.

python -m tests.checkpoints.fuzz --files=2000 [--seed=N] [--reader=NAME ...]

Each reader runs in its own process, which may use 1 GB more memory than loading the undamaged files takes. The right
content is what was saved, if the damage did not matter, and otherwise what an independent reader (json, h5py,
tokenizers or sentencepiece) finds in the same file.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import traceback

import numpy as np

import tfzoo
from tests.checkpoints import fuzz_content
from tests.checkpoints.fuzz_folders import FAMILIES, change, write_folders
from tests.helpers import CHECKOUT, memory
from tfzoo.errors import DataError

MARGIN = 2 ** 30  # bytes
READERS = {  # name -> (folder, the files to damage in turn, the comparison)
    "config.json": ("whole", ["config.json"], fuzz_content.check_config),
    "model.safetensors": ("whole", ["model.safetensors"], fuzz_content.check_same),
    "shards": ("shards", ["model.safetensors.index.json", "one.safetensors", "two.safetensors"],
               fuzz_content.check_same),
    "own config.json": ("own", ["config.json"], fuzz_content.check_own),
    "model.keras": ("own", ["model.keras"], fuzz_content.check_archive),
    "vocab.txt": ("bert/vocab.txt", ["vocab.txt"], fuzz_content.check_words),
    "vocab.json, merges.txt": ("llama/vocab.json", ["vocab.json", "merges.txt"], fuzz_content.check_package),
    "tokenizer.json": ("tokenizer.json", ["tokenizer.json"], fuzz_content.check_package),
    "spiece.model": ("t5/spiece.model", ["spiece.model"], fuzz_content.check_sentencepiece),
    "tokenizer_config.json": ("tokenizer_config.json", ["tokenizer_config.json"], fuzz_content.check_settings)}
COLUMNS = ("files", "equal", "unknown kind", "refused", "else", "MB")


def folders_of(reader):
    """Return the names of the folders with which a reader is tested: list of str."""
    name = READERS[reader][0]
    return [name] if "/" in name else [f"{family}/{name}" for family in FAMILIES]


def outcome(folder, whole, check):
    """Return the result column for a damaged folder; an AssertionError or any other error is a finding."""
    try:
        loaded = tfzoo.load(folder)
    except (DataError, FileNotFoundError) as error:
        line = str(error).replace(str(folder), "FOLDER")
        assert line.isprintable() and len(line) < 400, line
        assert not isinstance(error.__cause__ or error.__context__, MemoryError), line
        return "refused"
    check(folder, loaded, whole)
    return "unknown kind" if loaded.tokenizer is None and whole.tokenizer is not None else "equal"


def fuzz(reader, folder, count, seed, findings):
    """Damage the files of a reader, one at a time, and count the results.

    Args:
        reader: str, a key of READERS.
        folder: path of a folder written by `write_folders`.
        count: int, the number of damaged files.
        seed: int.
        findings: path of the folder to which folders with findings are copied, with the reason in `reason.txt`.

    Returns:
        dict of column -> int.
    """
    _, names, check = READERS[reader]
    rng, found = np.random.default_rng([seed, list(READERS).index(reader)]), dict.fromkeys(COLUMNS, 0)
    wholes = [(folder / name, tfzoo.load(folder / name)) for name in folders_of(reader)]
    for _, whole in wholes:
        fuzz_content.warm(whole)
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + MARGIN, resource.RLIM_INFINITY))
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    for number in range(count):
        place, whole = wholes[number % len(wholes)]
        name = names[number // len(wholes) % len(names)]
        content = (place / name).read_bytes()
        (place / name).write_bytes(change(name, content, rng))
        try:
            column = outcome(place, whole, check)
        except Exception:
            column, kept = "else", findings / f"{reader.split('.')[0].replace(' ', '_')}-{seed}-{number}"
            kept.mkdir(parents=True, exist_ok=True)
            for path in place.iterdir():
                (kept / path.name).write_bytes(path.read_bytes())
            (kept / "reason.txt").write_text(f"{name}\n{traceback.format_exc()}")
            print(f"{kept}: {traceback.format_exc().splitlines()[-1][:300]}", file=sys.stderr)
        found["files"] += 1
        found[column] += 1
        (place / name).write_bytes(content)
    found["MB"] = (memory("VmHWM") - before) // 10 ** 6
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return found


def run(readers, count, seed, findings):
    """Fuzz readers in a separate process and return a dict of reader -> dict of column -> number."""
    command = [sys.executable, "-m", "tests.checkpoints.fuzz", "--worker", f"--files={count}", f"--seed={seed}",
               f"--findings={findings}", *(f"--reader={reader}" for reader in readers)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    print("\n".join(line for line in done.stderr.splitlines() if str(findings) in line), file=sys.stderr)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:  # the process crashed before the current reader printed its line
        found.append({reader: {"else": 1, "died": done.stderr[-1000:]} for reader in readers[len(found):]})
    return {reader: row for rows in found for reader, row in rows.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=list(READERS))
    parser.add_argument("--findings", default=f"{tempfile.gettempdir()}/tfzoo-findings")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    readers, findings = args.reader or list(READERS), pathlib.Path(args.findings)
    if args.worker:
        with tempfile.TemporaryDirectory() as folder:
            write_folders(pathlib.Path(folder))
            for reader in readers:
                print(json.dumps({reader: fuzz(reader, pathlib.Path(folder), args.files, args.seed, findings)}),
                      flush=True)
        return
    print("| reader | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (1 + len(COLUMNS)))
    wrong = 0
    for reader in readers:
        row = run([reader], args.files, args.seed, findings)[reader]
        wrong += row["else"]
        print(f"| {reader} | " + " | ".join(str(row.get(column, "")) for column in COLUMNS) + " |",
              row.get("died", ""), flush=True)
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
