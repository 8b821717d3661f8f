"""Generation in tfzoo, keras-nlp, PyTorch (transformers) and CTranslate2, with the same weights in one run.

tfzoo-litert is tfzoo's export to LiteRT, whose decoding loop is in NumPy; it decodes without beams.

The weights are random, and written once to a Hugging Face folder that each system reads. Each system generates a fixed
number of tokens; tokens/s counts these tokens (in the prefill workload, the prompt's) over the time of the whole call,
prefill included. Tokens are compared with tfzoo's in float32: if another system's greedy tokens in float32 differ, the
comparison is void, and the exit code is 1. For prefill, the floor is the time of the forward matrix products of a
prompt, at the machine's peak rate for large products, with the head at the last position only. --plot also measures,
and draws, tfzoo's prefill and step time over the length of the prompt, the batch size and the vocabulary.
"""
import pathlib
import statistics
import sys
import tempfile

from absl import app, flags

from benchmarks.interleave import (FLAGS, Worker, add_flags, add_plot_flags, add_ratios, command_of, drawing,
                                   drawn_only, refuse_words, report, row_of, tidy, variants_of)
from experiments.app import import_tensorflow

MODULE = "benchmarks.decode_worker"
SYSTEMS = {"tfzoo": ("no_xla", "frozen", "xla"), "keras-nlp": ("no_xla", "xla"), "pytorch": ("eager", "compiled"),
           "tfzoo-litert": ("default",), "ctranslate2": ("default",)}
DTYPES = {"ctranslate2": ("float32", "int8"), "tfzoo-litert": ("float32", "int8")}
REFERENCE = "tfzoo no_xla float32"
MODELS = {"gpt2_124m": {"task": "causal_lm", "eos": 50256, "vocab": 50257},
          "t5_small": {"task": "seq2seq", "eos": 1, "vocab": 32128}}
DEVIATION = 0.1  # of the random weights; with smaller ones, models repeat one token
GPT2 = {"layers": 12, "width": 768, "vocab": 50257}


def _work(model, batch, prompt, new, beams=1):
    return {"model": model, "vocab": MODELS[model]["vocab"], "batch": batch, "prompt": prompt, "new": new,
            "beams": beams}


WORKLOADS = {
    **{f"gpt2_greedy_{batch}x{32}+{96}": _work("gpt2_124m", batch, 32, 96) for batch in (1, 8)},
    **{f"gpt2_beam4_{batch}x{32}+{96}": _work("gpt2_124m", batch, 32, 96, beams=4) for batch in (1, 8)},
    **{f"t5_beam4_{batch}x{64}+{64}": _work("t5_small", batch, 64, 64, beams=4) for batch in (1, 8)},
    "t5_greedy_1x64+64": _work("t5_small", 1, 64, 64),
    "gpt2_prefill_1x512": _work("gpt2_124m", 1, 512, 1)}
SWEEPS = {"length": (64, 128, 256, 512, 960), "batch": (1, 2, 4, 8, 16, 32, 64),
          "vocab": (8000, 16000, 32000, 64000, 128000)}
AXES = {"length": "prompt (tokens per row)", "batch": "batch (rows)", "vocab": "vocabulary (tokens)"}
STEPS = 32  # of which a sweep takes the mean
add_flags(rounds=5, steps=1)
add_plot_flags()
flags.DEFINE_multi_enum("workload", list(WORKLOADS), list(WORKLOADS), "Workload to measure; repeatable.",
                        allow_override=True)
flags.DEFINE_integer("threads", 2, "Threads for each system.", lower_bound=1, allow_override=True)


def recipe_of(model, works, **values):
    """Return the workers' recipe for the workloads of a model: dict."""
    return {"model": model, **MODELS[model], "works": works, "threads": FLAGS.threads, **values}


def _works_of(model):
    return [name for name in dict.fromkeys(FLAGS.workload) if WORKLOADS[name]["model"] == model]


def write_weights(model, folder):
    """Write a model with random weights as a Hugging Face folder."""
    import tensorflow as tf

    import tfzoo
    network = tfzoo.build(model, task=MODELS[model]["task"])
    for number, weight in enumerate(network.weights):
        if len(weight.shape) > 1:
            weight.assign(tf.random.stateless_normal(weight.shape, [0, number], stddev=DEVIATION))
    tfzoo.save(network, folder, format="huggingface")


def measure(commands, works, rounds):
    """Run workloads in interleaved rounds, each variant once per round.

    Args:
        commands: dict of variant -> command of its worker.
        works: iterable of str, the workloads.
        rounds: int.

    Yields:
        (workload, dict of variant -> dict) with `rounds` (seconds of each call), `seconds` (their median),
        `first_seconds` (of the first call, which traces and compiles), `peak_bytes` and `token_ids`. Variants that
        cannot run a workload are omitted, with a line on stderr.
    """
    workers = {variant: Worker(command) for variant, command in commands.items()}
    for work in works:
        answers = {}

        def ask(variant):
            answer = workers[variant].ask(f"{work} 1")
            problem = workers[variant].problem if answer is None else answer.get("problem")
            if problem is not None:
                print(f"{work}: {variant}: skipped ({problem})", file=sys.stderr)
                answers.pop(variant, None)
            if answer is None:
                workers.pop(variant).close()
            return None if problem is not None else answer

        for variant in list(workers):
            first = ask(variant)
            if first is not None and ask(variant) is not None:
                answers[variant] = [first]
        for number in range(rounds):
            for variant in list(answers):
                answer = ask(variant)
                if answer is not None:
                    answers[variant].append(answer)
            print(f"{work}: round {number + 1} of {rounds}", file=sys.stderr)
        yield work, {variant: _summary(*given) for variant, given in answers.items()}
    for worker in workers.values():
        worker.close()


def _summary(first, *given):
    seconds = [answer["seconds"] for answer in given]
    return {"rounds": seconds, "seconds": statistics.median(seconds), "first_seconds": first["seconds"],
            "peak_bytes": max(answer["peak_bytes"] for answer in given), "token_ids": given[-1]["token_ids"]}


def same(tokens, others):
    """Return the share of the tokens of all rows before the first difference of each row: float."""
    counts = [next((number for number, (one, other) in enumerate(zip(row, rows)) if one != other), len(row))
              for row, rows in zip(tokens, others, strict=True)]
    return sum(counts) / sum(map(len, tokens))


def rows_of(name, found):
    """Return a workload's rows from its results (see `measure`): list of dict."""
    work, rows = WORKLOADS[name], []
    reference = found.get(REFERENCE)
    for variant, result in found.items():
        values = {key: value for key, value in result.items() if key != "token_ids"}
        count = work["batch"] * (work["new"] if work["new"] > 1 else work["prompt"])
        rows.append(row_of(name, variant, **{
            "ms": 1000 * result["seconds"], "tokens/s": count / result["seconds"],
            "slowest": count / max(result["rounds"]), "fastest": count / min(result["rounds"]),
            "same tokens": round(same(reference["token_ids"], result["token_ids"]), 4) if reference else None,
            **values}))
    return rows


def different(rows):
    """Return the rows whose greedy tokens should be those of tfzoo, but are not: list of dict."""
    return [row for row in rows if row["dtype"] == "float32" and WORKLOADS[row["workload"]]["beams"] == 1
            and row["same tokens"] not in (1.0, None)]


def prefill_flops(work, layers, width, vocab):
    """Return the FLOPs of a prompt's forward products, with all positions in each block and one in the head: int."""
    block = 12 * width ** 2 + 2 * work["prompt"] * width  # multiplications per position
    return 2 * work["batch"] * (layers * block * work["prompt"] + vocab * width)


def add_floor(rows):
    """Add to the rows of prefill the share of the time that their products take at the machine's peak rate."""
    from benchmarks.peaks import peaks
    import_tensorflow()
    rates = peaks()
    for row in rows:
        if row["dtype"] in rates:
            flops = prefill_flops(WORKLOADS[row["workload"]], **GPT2)
            row["of the floor"] = 1000 * flops / rates[row["dtype"]] / row["ms"]
            print(f"{row['workload']}: {row['system']} {row['variant']} {row['dtype']}: {row['of the floor']:.0%} of "
                  f"the floor at {rates[row['dtype']] / 1e9:.0f} GFLOP/s")


def measure_model(model, works):
    """Measure the workloads of a model in all systems, and print tfzoo's ratios to the peers: list of rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / model)
        import_tensorflow()
        write_weights(model, path)
        recipe = recipe_of(model, {name: WORKLOADS[name] for name in works}, folder=path)
        commands = {variant: command_of(MODULE, recipe, variant) for variant in variants_of(SYSTEMS, DTYPES)}
        rows = []
        for name, found in measure(commands, works, FLAGS.rounds):
            rows += (here := rows_of(name, found))
            for row in here:
                print(f"{name}: {row['system']} {row['variant']} {row['dtype']}: {row['tokens/s']:.1f} tokens/s, the "
                      f"same tokens as {REFERENCE}: {row['same tokens']}", flush=True)
            add_ratios(here, "tokens/s")
    return rows


def sweep_rows():
    """Measure tfzoo's prefill and step time for each value of each sweep: list of dict."""
    rows = []
    for sweep, values in SWEEPS.items():
        for value in values:
            work = {**_work("gpt2_124m", 1, 32, 1), **({"prompt": value} if sweep == "length" else {sweep: value})}
            works = {"prefill": work, "whole": {**work, "new": 1 + STEPS}}
            recipe = recipe_of("gpt2_124m", works, overrides={"vocab_size": work["vocab"]}, eos=1)
            variant = "tfzoo no_xla bfloat16"
            found = dict(measure({variant: command_of(MODULE, recipe, variant)}, works, FLAGS.rounds))
            prefill, whole = (found[name][variant] for name in works)
            rows.append(row_of(f"gpt2_{work['batch']}x{work['prompt']}_vocab{work['vocab']}", variant, **{
                "sweep": sweep, "value": value, "ms": 1000 * whole["seconds"], "same tokens": None,
                "prefill ms": 1000 * prefill["seconds"],
                "step ms": 1000 * (whole["seconds"] - prefill["seconds"]) / STEPS, "peak_bytes": whole["peak_bytes"],
                "tokens/s": work["batch"] * (1 + STEPS) / whole["seconds"]}))
    return rows


def draw(rows, path):
    """Draw prefill times above step times, one column per sweep."""
    figure = drawing()
    sweeps = [sweep for sweep in SWEEPS if any(row.get("sweep") == sweep for row in rows)]
    if not sweeps:
        raise SystemExit("nothing to draw: --from requires a file written by benchmarks.decode with --plot and --json")
    picture = figure(figsize=(3.4 * len(sweeps), 5.6), layout="constrained")
    axes = picture.subplots(2, len(sweeps), squeeze=False)
    for column, sweep in enumerate(sweeps):
        points = sorted((row["value"], row["prefill ms"], row["step ms"]) for row in rows if row.get("sweep") == sweep)
        values, *times = zip(*points)
        for axis, what, each in zip(axes[:, column], ("prefill", "step"), times):
            axis.plot(values, each, "o-")
            axis.set_ylabel(f"{what} time (ms)")
            tidy(axis, AXES[sweep])
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=120)


def main(argv):
    refuse_words(argv)
    if drawn_only(draw):
        return
    variants_of(SYSTEMS, DTYPES)  # refuse wrong flags before any work
    rows = [row for model in MODELS if (works := _works_of(model)) for row in measure_model(model, works)]
    add_floor([row for row in rows if WORKLOADS[row["workload"]]["new"] == 1])
    swept = sweep_rows() if FLAGS.plot else []
    report([*rows, *swept], {"workload": "{}", "system": "{}", "variant": "{}", "dtype": "{}", "tokens/s": "{:>.1f}",
                             "ms": "{:>.1f}", "same tokens": "{}", "peak_bytes": "{:>,}"}, FLAGS.json)
    if FLAGS.plot:
        draw(swept, FLAGS.plot)
    if wrong := different(rows):
        raise SystemExit("the comparison is void, because greedy tokens in float32 differ from tfzoo's: " + ", ".join(
            f"{row['system']} {row['variant']} ({row['workload']}, {row['same tokens']:.0%} the same)"
            for row in wrong))


if __name__ == "__main__":
    app.run(main)
