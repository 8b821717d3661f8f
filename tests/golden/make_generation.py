"""Write what transformers generates for random options, and the logits that its processors make of fixed ones.

Run in an environment with torch 2.13.0 and transformers 4.57.1:
python tests/golden/make_generation.py [--seed N] [--count N] [--families A,B] [--out FILE]

Each row is generated alone, and a case is redrawn if a row has near ties, that is, if a model in float64 generates
other ids. Where the rows padded on the left and generated together give other ids, the case says so (`together`):
transformers counts the padding as context.
"""
import argparse
import contextlib
import gzip
import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from transformers.generation import GenerationConfig, GenerationMixin
from transformers.generation.logits_process import EncoderRepetitionPenaltyLogitsProcessor

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import generation  # noqa: E402
from make_families import model_of  # noqa: E402

NEAR = 1e-5  # relative


class Margins:
    """Record the smallest relative distance between scores whose order decides a beam search of one row."""

    def __init__(self):
        self.least = np.inf

    def see(self, scores):
        ordered = np.sort(np.asarray(scores, np.float64)[np.asarray(scores) > -1e8])[::-1]
        gaps = -np.diff(ordered) / np.maximum(np.abs(ordered[1:]), 1e-30)
        self.least = min([self.least, *gaps])

    @contextlib.contextmanager
    def watch(self):
        before = {name: getattr(GenerationMixin, name) for name in (
            "_get_top_k_continuations", "_update_finished_beams", "_check_early_stop_heuristic")}

        def continuations(owner, accumulated_log_probs, **words):
            self.see(torch.topk(accumulated_log_probs[0], words["beams_to_keep"] + 1)[0])
            return before["_get_top_k_continuations"](owner, accumulated_log_probs=accumulated_log_probs, **words)

        def finished(owner, **words):
            found = before["_update_finished_beams"](owner, **words)
            self.see(found[1][0])
            return found

        def heuristic(**words):
            length = words["cur_len"] - words["decoder_prompt_len"]
            if words["early_stopping"] == "never" and words["length_penalty"] > 0:
                length = words["max_length"] - words["decoder_prompt_len"]
            best = float(words["running_beam_scores"][0, 0]) / length ** words["length_penalty"]
            self.see([best, float(words["beam_scores"].min())])
            return before["_check_early_stop_heuristic"](**words)

        GenerationMixin._get_top_k_continuations = continuations
        GenerationMixin._update_finished_beams = finished
        GenerationMixin._check_early_stop_heuristic = staticmethod(heuristic)
        try:
            yield
        finally:
            GenerationMixin._get_top_k_continuations = before["_get_top_k_continuations"]
            GenerationMixin._update_finished_beams = before["_update_finished_beams"]
            GenerationMixin._check_early_stop_heuristic = staticmethod(before["_check_early_stop_heuristic"])


def _with_whole_source(plain):
    # transformers does not repeat the source for the beams of a row: it penalizes only the first rows of [B x beams].
    def call(self, input_ids, scores):
        ids = self.encoder_input_ids
        self.encoder_input_ids = ids.repeat_interleave(len(scores) // len(ids), 0)
        try:
            return plain(self, input_ids, scores)
        finally:
            self.encoder_input_ids = ids
    return call


EncoderRepetitionPenaltyLogitsProcessor.__call__ = _with_whole_source(EncoderRepetitionPenaltyLogitsProcessor.__call__)


def build(family, seed):
    """Return (model, about) of a family."""
    config = generation.config_of(family, seed)
    architecture = generation.ARCHITECTURES[family]
    model, named = model_of(architecture, config, seed)
    shapes = {name: list(value.shape) for name, value in named.items()}
    weights = generation.weights_of(family, shapes, seed)
    with torch.no_grad():
        for name, value in named.items():
            value.copy_(torch.tensor(weights[name]))
    model.generation_config = GenerationConfig(pad_token_id=generation.PAD, decoder_start_token_id=generation.PAD)
    about = {"family": family, "seed": seed, "shapes": shapes,
             "config": {**config, "architectures": [architecture], "model_type": model.config.model_type}}
    return model, about


def padded(rows, left):
    """Return (ids, mask) of rows padded on one side: torch.int64 [B, T]."""
    ids = np.full((2, len(rows), max(map(len, rows))), 0, np.int64)
    for number, row in enumerate(rows):
        place = slice(-len(row), None) if left else slice(len(row))
        ids[0, number], ids[1, number] = generation.PAD, 0
        ids[0, number, place], ids[1, number, place] = row, 1
    return torch.tensor(ids[0]), torch.tensor(ids[1])


def config_of(options):
    """Return the GenerationConfig of options; an option that is absent is off."""
    options = {key: value for key, value in options.items() if value != []}
    return GenerationConfig(**{"do_sample": False, "top_k": 0, **options}, pad_token_id=generation.PAD,
                            decoder_start_token_id=generation.PAD, return_dict_in_generate=True, output_scores=True)


@torch.no_grad()
def run(model, prompts, source, options):
    """Return the output of transformers for a batch."""
    ids, mask = padded(prompts, left=True)
    if source is None:
        words = {"input_ids": ids, "attention_mask": mask}
    else:
        words = dict(zip(("input_ids", "attention_mask"), padded(source, left=False)), decoder_input_ids=ids,
                     decoder_attention_mask=mask)
    return model.generate(**words, generation_config=config_of(options), use_model_defaults=False)


def generate(model, prompts, source, options):
    """Return what transformers generates for a batch: list of dicts with ids, score, log_probabilities and gaps."""
    result = run(model, prompts, source, options)
    beams = result.get("beam_indices")
    steps = model.compute_transition_scores(result.sequences, result.scores, beams, normalize_logits=beams is None)
    rows = []
    for number, row in enumerate(result.sequences[:, max(map(len, prompts)):].tolist()):
        if beams is not None:
            length = int((beams[number] >= 0).sum())
        else:
            ends = [place for place, token in enumerate(row) if token in options["eos_token_id"]]
            length = ends[0] + 1 if ends else len(row)
        log_probabilities = [round(value, 6) for value in steps[number, :length].tolist()]
        rows.append({"ids": row[:length], "log_probabilities": log_probabilities})
        rows[-1]["score"] = sum(log_probabilities) if beams is None else float(result.sequences_scores[number])
        if beams is None:
            two = [torch.topk(scores[number], 2)[0].tolist() for scores in result.scores[:length]]
            rows[-1]["gaps"] = [float((one - other) / max(abs(one), 1e-30)) for one, other in two]
    return rows


def each_alone(model, case):
    """Generate the rows of a case one by one: list of rows, each a list of dicts; and the margin of each: list."""
    found, margins = [], []
    source = case.get("source") or [None] * len(case["prompts"])
    for prompt, given in zip(case["prompts"], source):
        margin = Margins()
        with margin.watch():
            found.append(generate(model, [prompt], None if given is None else [given], case["options"]))
        margin.least = min([margin.least, *(gap for row in found[-1] for gap in row.get("gaps", []))])
        margins.append(float(margin.least))
    return found, margins


def ids_of(rows):
    return [row["ids"] for row in rows]


def make(model, exact, family, rng, beams, only):
    """Return a random case: dict with inputs, options, rows, margins and whether a batch gives the same ids."""
    inputs = generation.inputs_of(family, rng)
    plain = {**inputs, "options": {"max_new_tokens": 20, "eos_token_id": []}}
    texts = [row["ids"] for rows in each_alone(model, plain)[0] for row in rows]
    case = {**inputs, "options": generation.options_of(rng, inputs["prompts"], texts, beams=beams, only=only)}
    rows, margins = each_alone(model, case)
    case["rows"] = [row for group in rows for row in group]
    case["margins"] = margins
    if any(not row["ids"] or row["score"] < -1e8 for row in case["rows"]):
        print("has too few answers:", json.dumps(case), flush=True)
        return {"steady": False}
    case["steady"] = exact is None or ids_of(case["rows"]) == ids_of(
        [row for group in each_alone(exact, case)[0] for row in group])
    batch = generate(model, case["prompts"], case.get("source"), case["options"])
    case["together"] = ids_of(batch) == ids_of(case["rows"])
    return case


def processed(seed):
    """Return (about, arrays): what the processors of transformers make of fixed logits [3, 40]."""
    rng = np.random.default_rng([seed, 5])
    model, _ = build("gpt2", seed)
    logits = (3 * rng.standard_normal((3, 40))).astype(np.float32)
    logits[0, 3] = logits[0, 17]  # a tie
    history = rng.integers(0, 40, (3, 9))
    history[1] = [4, 8, 15, 4, 8, 16, 4, 8, 4]
    history[2, -2:] = [5, 6]
    source = rng.integers(0, 40, (3, 6))
    given = [({"repetition_penalty": 1.7}, 1), ({"repetition_penalty": 0.5}, 1),
             ({"encoder_repetition_penalty": 1.7}, 1), ({"encoder_repetition_penalty": 0.5}, 1),
             *(({"no_repeat_ngram_size": size}, 1) for size in (1, 2, 3)),
             ({"bad_words_ids": [[7], [5, 6, 9], [8, 4, 30], [6, 6, 1], [4, 2]]}, 1),
             ({"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "bad_words_ids": [[7], [6, 9]],
               "suppress_tokens": [1, 2]}, 1),
             ({"encoder_repetition_penalty": 1.3, "repetition_penalty": 1.2, "temperature": 0.8, "top_k": 9,
               "top_p": 0.9}, 1), *generation.warpers_of(rng, 40)]
    cases, arrays = [], []
    for options, least in given:
        config = GenerationConfig(**{"top_k": 0, **options}, do_sample=True, eos_token_id=1, num_beams=least,
                                  max_length=generation.ROOM)
        found = []
        for kind in (torch.float32, torch.float64):
            model._prepare_special_tokens(config)
            chain = model._get_logits_processor(config, input_ids_seq_length=4, device="cpu",
                                                encoder_input_ids=torch.tensor(source))
            found.append(chain(torch.tensor(history), torch.tensor(logits, dtype=kind)).numpy())
        if not (np.isinf(found[0]) == np.isinf(found[1])).all():  # a threshold is met nearly exactly
            print("skips", options, least)
            continue
        cases.append({"options": options, "least": least})
        arrays.append(found[0])
    return {"processed": cases}, {"logits": logits, "history": history.astype(np.int32),
                                  "source": source.astype(np.int32), "processed": np.stack(arrays)}


@torch.no_grad()
def draw(model, family, rng):
    """Return a random case of sampling: dict with inputs of one row, options and the next token's probabilities."""
    inputs = {name: rows[:1] for name, rows in generation.inputs_of(family, rng).items()}
    plain = generate(model, inputs["prompts"], inputs.get("source"), {"max_new_tokens": 8, "eos_token_id": []})
    options = generation.options_of(rng, inputs["prompts"], [row["ids"] for row in plain], beams=False)
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        options.pop(name, None)
    options.update(generation.warpers_of(rng, 1)[-1][0], max_new_tokens=1, min_new_tokens=0)
    result = run(model, inputs["prompts"], inputs.get("source"), {**options, "do_sample": True})
    found = result.scores[0][0].softmax(-1).tolist()
    if sum(value > 0 for value in found) < 3:  # hardly a distribution
        return draw(model, family, rng)
    return {"family": family, **inputs, "options": options, "probabilities": found}


def plan_of(names, count, rng):
    """Return [(family, beams, only)]: each option alone, then `count` combinations, then beams with many ends."""
    single = [(beams, name) for name in generation.SINGLE for beams in (False, True)]
    found = [(names[number % len(names)], *case) for number, case in enumerate(single)]
    found += [(names[number % len(names)], bool(rng.integers(2)), None) for number in range(count)]
    return found + [(name, True, "many ends") for name in names[:2]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--families", default="gpt2,llama,mistral,t5,t5_1.1")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "generation.json.gz")
    parser.add_argument("--live", action="store_true", help="combinations alone, with near ties, and draws")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rng, names = np.random.default_rng([args.seed, 4]), args.families.split(",")
    models = {name: build(name, args.seed) for name in names}
    exact = {name: None if args.live else build(name, args.seed)[0].double() for name in names}
    plan = plan_of(names, args.count, rng)
    found = {"models": {name: about for name, (_, about) in models.items()}, "cases": [],
             "versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    for number, (family, beams, only) in enumerate(plan[-args.count:] if args.live else plan):
        case = {"steady": False}
        while not case["steady"]:
            case = make(models[family][0], exact[family], family, rng, beams, only)
        del case["steady"]
        found["cases"].append({"family": family, **case})
        print(number, family, json.dumps(case["options"]), case["together"], f"{min(case['margins']):.0e}",
              [f"{len(set(row['ids']))}/{len(row['ids'])}" for row in case["rows"]], flush=True)
        if not args.live:
            del found["cases"][-1]["margins"]
            for row in case["rows"]:
                row.pop("gaps", None)
    if args.live:
        found["draws"] = [draw(models[name][0], name, rng) for name in names for _ in range(-(-args.count // 50))]
    about, arrays = processed(args.seed)
    found.update(about, **{name: value.tolist() for name, value in arrays.items() if name != "processed"})
    for case, array in zip(found["processed"], arrays["processed"]):
        case["logits"] = [[None if np.isinf(value) else round(float(value), 6) for value in row] for row in array]
    with gzip.GzipFile(args.out, "wb", mtime=0) as file:
        file.write(json.dumps(found).encode())


if __name__ == "__main__":
    main()
