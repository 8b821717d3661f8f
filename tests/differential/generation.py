"""Generation with random options, compared with transformers for all families that decode.

    python -m tests.differential.generation PYTHON [COUNT [SEED]]

PYTHON is an interpreter with torch 2.13.0 and transformers 4.57.1. Greedy decoding and beams must give the same ids; a
difference is excused, and counted, where transformers chose between candidates whose scores are within 1e-5 of each
other. Sampling must follow transformers' distribution of the next token.
"""
import dataclasses
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import scipy.stats

from tests.golden import generation

NEAR, RARE, DRAWS, ROWS, COPIES = 1e-5, 1e-4, 100_000, 20, 50


def options_of(given, **words):
    """Return Options from those of transformers."""
    from tfzoo.generation import Options
    found = {name: tuple(map(tuple, value)) if name == "bad_words_ids" else tuple(value) if isinstance(value, list)
             else value for name, value in given.items()}
    return Options(**{"temperature": 0.0, **found, **words})


def padded(rows, left=False, columns=0):
    """Return (ids, mask) of rows padded on one side to at least `columns`: int32 [B, T]."""
    ids, mask = np.zeros((2, len(rows), max(columns, *map(len, rows))), np.int32)
    for number, row in enumerate(rows):
        place = slice(-len(row), None) if left else slice(len(row))
        ids[number, place], mask[number, place] = row, 1
    return ids, mask


def source_of(texts, columns=0):
    """Return the inputs of an encoder for lists of ids: dict of int32 [B, S]; None for None."""
    if texts is None:
        return None
    return dict(zip(("encoder_token_ids", "encoder_padding_mask"), padded(texts, columns=columns)))


def generated(model, case):
    """Return Generated for a case; without beams, with log-probabilities."""
    from tfzoo.generation import Generator
    options = options_of(case["options"], log_probabilities="num_beams" not in case["options"])
    return Generator(model.body, model.logits, options).generate(case["prompts"], source_of(case.get("source")))


def is_near_tie(ours, row, margin):
    """Return whether transformers chose between nearly equal candidates where, or anywhere before, the ids differ."""
    if "gaps" not in row:
        return margin <= NEAR
    first = next(place for place, two in enumerate(zip(ours, row["ids"])) if two[0] != two[1])
    return row["gaps"][first] <= NEAR


def differences(model, case):
    """Yield a line for each answer that differs: (str, whether it is excused)."""
    found, answers = generated(model, case), case["options"].get("num_return_sequences", 1)
    for number, row in enumerate(case["rows"]):
        ours = found.token_ids[number, :found.lengths[number]].tolist()
        if ours != row["ids"]:
            yield f"answer {number}: {ours}, in transformers {row['ids']}", is_near_tie(
                ours, row, case["margins"][number // answers])
            continue
        for value, theirs in ((found.scores, row["score"]), (found.log_probabilities, row["log_probabilities"])):
            value = None if value is None else np.ravel(value[number])[:np.size(theirs)]
            if value is not None and np.abs(value - theirs).max() > 1e-4 * max(1, np.abs(theirs).max()):
                yield f"answer {number}: scores {value.tolist()}, in transformers {theirs}", False


def drawn_alike(model, case):
    """Return the p-value of chi-square for DRAWS of the next token: float; 0 if one is impossible in transformers."""
    from tfzoo.generation import Generator
    options = options_of({"temperature": 1.0, **case["options"]}, num_return_sequences=COPIES)
    generator, counts = Generator(model.body, model.logits, options), np.zeros(len(case["probabilities"]), int)
    source = source_of(case["source"] * ROWS) if "source" in case else None
    for seed in range(0, DRAWS // COPIES, ROWS):
        generator.options = dataclasses.replace(options, seed=seed)  # an argument of the graph: no new trace
        tokens = generator.generate(case["prompts"] * ROWS, source).token_ids[:, 0]
        counts += np.bincount(tokens, minlength=len(counts))
    expected = np.array(case["probabilities"])
    expected *= counts.sum() / expected.sum()
    if counts[expected == 0].any():
        return 0.0
    often = expected >= 5
    counts, expected = (np.append(one[often], one[~often].sum()) for one in (counts, expected))
    keep = expected > 0
    return float(scipy.stats.chisquare(counts[keep], expected[keep]).pvalue) if keep.sum() > 1 else 1.0


def check(reference_python, count, seed):
    """Compare generation of tfzoo and transformers.

    Args:
        reference_python: str or path, an interpreter with torch 2.13.0 and transformers 4.57.1.
        count: int, the number of random options for greedy decoding or beams.
        seed: int.

    Returns:
        List of str, one for each answer that differs, and for each distribution of draws that does.
    """
    import tfzoo
    findings, answers, excused = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        script = pathlib.Path(generation.__file__).parent / "make_generation.py"
        done = subprocess.run([reference_python, str(script), "--live", f"--count={count}", f"--seed={seed}",
                               f"--families={','.join(generation.ARCHITECTURES)}", f"--out={folder / 'live'}"],
                              capture_output=True, text=True)
        if done.returncode:
            return [f"generation: the reference failed: {done.stderr[-500:]}"]
        live, models = json.loads(gzip.decompress((folder / "live").read_bytes())), {}
        for family, about in live["models"].items():
            generation.write_folder(about, folder / family)
            models[family] = tfzoo.load(folder / family).model
    for number, case in enumerate(live["cases"]):
        answers += len(case["rows"])
        for line, is_excused in differences(models[case["family"]], case):
            excused += is_excused
            if not is_excused:
                findings.append(f"generation {number}: {case['family']} with {json.dumps(case['options'])}: {line}")
    for number, case in enumerate(live["draws"]):
        chance = drawn_alike(models[case["family"]], case)
        if chance <= RARE:
            findings.append(f"generation: draws {number}: {case['family']} with {json.dumps(case['options'])}: "
                            f"p = {chance:.1e}")
    print(f"generation: {len(live['cases'])} cases with {answers} answers, {excused} near ties excused; "
          f"{len(live['draws'])} distributions", file=sys.stderr)
    return findings


if __name__ == "__main__":
    found = check(sys.argv[1], *map(int, sys.argv[2:] or (50, 0)))
    print("\n".join([*found, f"{len(found)} differences"]))
