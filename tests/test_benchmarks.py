"""Arithmetic and error messages of the benchmarks, with workers that compute nothing; measurements are run by hand."""
import json
import subprocess
import sys

import pytest
import tensorflow as tf
from absl import flags
from tensorflow.python.framework import ops

import tfzoo
from benchmarks import (decode, decode_worker, finetune_worker, growth, interleave, profile, scaling, tasks_worker,
                        train_step)
from benchmarks.worker import tfzoo_steps, workload_of
from tests.helpers import CHECKOUT
from tfzoo.training.strategy import place
from tfzoo.training.trainer import Trainer

WORKER = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.worker import answer
answer(lambda count: {{'seconds': {seconds} * count, 'tokens': 7 * count}}, word=lambda count: {{'a': count}})
"""


def worker_of(seconds):
    return [sys.executable, "-c", WORKER.format(root=str(CHECKOUT), seconds=seconds)]


def test_a_worker_answers_counts_and_words():
    worker = interleave.Worker(worker_of(0.5))
    assert {key: worker.ask(3)[key] for key in ("seconds", "tokens")} == {"seconds": 1.5, "tokens": 21}
    answer = worker.ask("word 4")
    assert answer["a"] == 4 and 0 <= answer["seconds"] < 1 and answer["peak_bytes"] >= answer["built_bytes"] > 0
    worker.close()


def test_variants_are_measured_in_turn_and_those_that_end_are_left_out(capsys):
    ends = [sys.executable, "-c", "print('noise')\nfor number in range(3): input(); print('{\"seconds\": 1, "
            "\"peak_bytes\": 1}', flush=True)\nraise SystemExit('no more')"]
    found = interleave.measure({"slow": worker_of(0.5), "fast": worker_of(0.25), "ends": ends,
                                "never": [sys.executable, "-c", "raise SystemExit('no such system')"]}, 2, 4)
    assert {name: result["seconds"] for name, result in found.items()} == {"slow": 0.5, "fast": 0.25}
    assert found["fast"]["rounds"] == [0.25, 0.25]
    assert [answer["tokens"] for answer in found["fast"]["answers"]] == [28, 28]
    lines = capsys.readouterr().err
    assert "never: skipped (no such system)" in lines and "ends: skipped, ended in round 2 (no more)" in lines


def test_a_last_line_is_asked_twice():
    found = interleave.measure({"one": worker_of(0.5)}, 1, 2, last="word 4")
    assert found["one"]["last"]["a"] == 4 and len(found["one"]["answers"]) == 1


def test_grouped_batches_hold_rows_of_similar_length_and_each_row_once_per_epoch():
    lengths = [number * 37 % 101 for number in range(640)]
    for grouped in (False, True):
        batches = tasks_worker.batches_of(lengths, 16, grouped, seed=0)
        epochs = [[next(batches) for _ in range(40)] for _ in range(2)]
        assert all(sorted(sum(epoch, [])) == list(range(640)) for epoch in epochs) and epochs[0] != epochs[1]
        padded = sum(16 * max(lengths[row] for row in batch) for batch in epochs[0])
        assert (padded < 1.1 * sum(lengths)) is grouped


def test_ratios_are_to_each_peer_s_best_in_the_same_dtype_and_of_all(capsys):
    rates = {"tfzoo packed bfloat16": 30, "tfzoo packed float32": 15, "keras-nlp xla bfloat16": 10,
             "keras-nlp no_xla bfloat16": 20, "keras-nlp no_xla float32": 60}
    rows = [interleave.row_of("work", variant, rate=rate) for variant, rate in rates.items()]
    interleave.add_ratios(rows, "rate")
    assert rows[0]["ratios"] == {"keras-nlp": 1.5} and rows[1]["ratios"] == {"keras-nlp": 0.25}
    assert rows[0]["ratios_in_all"] == {"keras-nlp": 0.5} and not any("ratios" in row for row in rows[2:])
    assert capsys.readouterr().out.splitlines() == [
        "tfzoo packed bfloat16: 1.50 x keras-nlp's fastest bfloat16 (no_xla bfloat16)",
        "tfzoo packed float32: 0.25 x keras-nlp's fastest float32 (no_xla float32)",
        "tfzoo packed bfloat16: 0.50 x keras-nlp's fastest of all dtypes (no_xla float32)"]


def test_the_shared_flags_choose_variants(monkeypatch, tmp_path, capsys):
    values = flags.FlagValues()
    monkeypatch.setattr(interleave, "FLAGS", values)
    monkeypatch.setattr(interleave, "PEERS", {"pytorch": ("no_such_torch",), "ctranslate2": ("json", "csv")})
    flags.DEFINE_list("only", [], "", flag_values=values)
    flags.DEFINE_list("peers_python", [], "", flag_values=values)
    systems = {"tfzoo": ("packed",), "pytorch": ("eager",), "ctranslate2": ("default",)}
    values(["benchmark", "--only=tfzoo,pytorch"])
    assert interleave.variants_of(systems) == ["tfzoo packed bfloat16", "tfzoo packed float32"]
    assert capsys.readouterr().err == ("pytorch: skipped; neither this environment nor one of --peers_python imports "
                                       "no_such_torch\n")
    one, other = (tmp_path / name for name in ("one", "other"))
    for path, words in ((one, "exit 1"), (other, "exit 0")):
        path.write_text(f"#!/bin/sh\n{words}\n")
        path.chmod(0o755)
    values(["benchmark", f"--peers_python={one},{other}", "--only=eager float32,ctranslate2"])
    assert interleave.variants_of(systems, {"ctranslate2": ("int8",)}) == [
        "pytorch eager float32", "ctranslate2 default int8"]
    assert interleave.command_of("module", {}, "pytorch eager float32")[0] == str(other)
    values(["benchmark", f"--peers_python={one}", "--only=ctranslate2"])
    assert interleave.command_of("module", {}, "ctranslate2 default int8")[0] == sys.executable
    values(["benchmark", "--only=nothing"])
    with pytest.raises(SystemExit, match="matches no variant: use parts of tfzoo packed bfloat16"):
        interleave.variants_of(systems)
    values(["benchmark", "--only=eager"])
    with pytest.raises(SystemExit, match="none of the chosen systems is installed"):
        interleave.variants_of(systems)
    values(["benchmark", "--peers_python=no_such_python"])
    with pytest.raises(SystemExit, match="no such program"):
        interleave.variants_of(systems)


def test_compiling_is_what_the_first_step_of_each_length_takes_more():
    clock = finetune_worker.Clock()
    clock.times.update({32: [5.0, 1.0, 1.0], 64: [9.0, 2.0, 3.0, 2.0], 128: [7.0]})
    assert clock.compiling == 4.0 + 7.0


def test_the_learning_rate_rises_and_falls_to_nothing():
    recipe = {"rate": 8.0, "steps": 8, "warmup": 4}
    assert [finetune_worker.rate_at(recipe, step) for step in range(9)] == [2, 4, 6, 8, 8, 6, 4, 2, 0]
    assert finetune_worker.rate_at({**recipe, "steps": 0}, 100) == 8


def test_a_step_of_two_workers_is_the_sum_of_its_parts():
    parts = scaling.breakdown({"one worker": 1.0, "two workers": 0.8, "gradients": 0.4, "half": 0.5,
                               "half beside": 0.55, "all_reduce": 0.2})
    assert sum(parts[name] for name in scaling.PARTS) == pytest.approx(0.8)
    assert parts["efficiency"] == 0.625 and parts["rest"] == pytest.approx(0.05)


def test_a_sweep_changes_one_thing_and_what_hangs_on_it():
    for sweep, values in growth.SWEEPS.items():
        for value in values:
            work = workload_of(json.dumps(growth.workload(sweep, value)))
            assert work[sweep] == value and work["width"] == 64 * work["heads"] and work["length"] <= work["positions"]
    assert growth.workload("length", 128) == growth.BASE


def rows_of_growth():
    return [{"machine": "none"}, *({"sweep": sweep, "value": value, "ms": value, "peak_bytes": 2 * value,
                                    "built_bytes": value} for sweep in growth.SWEEPS for value in (1, 2))]


def run(module, *words):
    return subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *words], cwd=CHECKOUT, capture_output=True,
                          text=True)


def test_growth_draws_what_was_measured_before(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows_of_growth()))
    done = run("growth", f"--from={tmp_path}/rows.json", f"--plot={tmp_path}/images/growth.png")
    assert done.returncode == 0 and (tmp_path / "images" / "growth.png").stat().st_size > 1000


DECODER = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.worker import answer
answer(None, greedy=lambda count: {{"seconds": {seconds}, "token_ids": {ids}}}, beams=lambda count: {beams})
"""


def decoder_of(seconds, ids, beams):
    return [sys.executable, "-c", DECODER.format(root=str(CHECKOUT), seconds=seconds, ids=ids, beams=beams)]


def test_generation_is_compared_and_what_a_system_cannot_run_is_left_out(monkeypatch, capsys, tmp_path):
    work = {"model": "gpt2_124m", "vocab": 9, "batch": 2, "prompt": 5, "new": 3, "beams": 1}
    monkeypatch.setattr(decode, "WORKLOADS", {"greedy": work, "beams": {**work, "beams": 4}})
    beams = {"seconds": 1, "token_ids": [[1, 2, 3], [4, 5, 6]]}
    commands = {decode.REFERENCE: decoder_of(1, [[1, 2, 3], [4, 5, 6]], beams),
                "ctranslate2 default float32": decoder_of(2, [[1, 2, 3], [4, 0, 6]], {"problem": "no beams"}),
                "ctranslate2 default int8": decoder_of(0.5, [[1, 2, 3], [0, 5, 6]], "1 / 0")}
    found = dict(decode.measure(commands, decode.WORKLOADS, 2))
    rows = [row for name in decode.WORKLOADS for row in decode.rows_of(name, found[name])]
    assert [(row["workload"], row["system"], row["dtype"], row["tokens/s"], row["same tokens"]) for row in rows] == [
        ("greedy", "tfzoo", "float32", 6, 1), ("greedy", "ctranslate2", "float32", 3, 0.6667),
        ("greedy", "ctranslate2", "int8", 12, 0.5), ("beams", "tfzoo", "float32", 6, 1)]
    assert decode.different(rows) == [rows[1]]
    lines = capsys.readouterr().err
    assert "beams: ctranslate2 default float32: skipped (no beams)" in lines
    assert "beams: ctranslate2 default int8: skipped (ZeroDivisionError" in lines
    monkeypatch.setattr(interleave, "machine", lambda systems: {"commit": "none"})
    interleave.report(rows, {"system": "{}", "tokens/s": "{:>.1f}"}, str(tmp_path / "rows.json"))
    assert json.loads((tmp_path / "rows.json").read_text())[1]["rounds"] == [1, 1]
    assert "ctranslate2      12.0" in capsys.readouterr().out


def test_the_floor_of_prefill_has_the_products_of_all_blocks_and_one_position_in_the_head():
    model = tfzoo.build("gpt2_tiny", task="causal_lm", vocab_size=400)

    @tf.function(autograph=False)
    def prefill(ids):
        sequence = model.body({"token_ids": ids, "padding_mask": tf.ones_like(ids)})["sequence"]
        return model.logits({"sequence": sequence[:, -1:]})

    graph = prefill.get_concrete_function(tf.TensorSpec([3, 64], tf.int32)).graph
    counted = sum(ops.get_stats_for_node_def(graph, op.node_def, "flops").value
                  for op in graph.get_operations() if "MatMul" in op.type)
    work = {"batch": 3, "prompt": 64}
    assert decode.prefill_flops(work, layers=2, width=128, vocab=400) == pytest.approx(counted, rel=0.01)


def test_decode_draws_what_was_measured_before(tmp_path):
    rows = [{"machine": "none"}, {"workload": "gpt2_greedy_1x32+96", "tokens/s": 1}, *(
        {"sweep": sweep, "value": value, "prefill ms": value, "step ms": 2} for sweep in decode.SWEEPS
        for value in (1, 2))]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    done = run("decode", f"--from={tmp_path}/rows.json", f"--plot={tmp_path}/decode.png")
    assert done.returncode == 0 and (tmp_path / "decode.png").stat().st_size > 1000


def test_the_worker_reports_what_a_system_cannot_run():
    def fails(work):
        raise ValueError("no\nbeams")

    assert decode_worker.run(fails, {}, 1) == {"problem": "ValueError: no beams"}


def test_growth_says_that_a_plot_needs_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit, match="requires matplotlib, which is not installed: pip install matplotlib"):
        growth.drawing()


@pytest.mark.parametrize("words, line", [
    (("growth", "--from=rows.json"), "--from requires --plot: give both"),
    (("decode", "--from=rows.json"), "--from requires --plot: give both"),
    (("decode", "--peers_python=no_such_python"), "--peers_python=no_such_python: no such program; give Python "
     "executables of environments that contain peers"),
    (("scaling", "--batch_size=7"), "--batch_size must be even, to be split between two workers, got 7"),
    (("pretrain", "--width=100"), "--width must be a multiple of 64, the width of each head, got 100")])
def test_a_wrong_flag_is_refused_in_one_line(words, line):
    done = run(*words)
    assert done.returncode == 1 and done.stderr == line + "\n"


@pytest.mark.parametrize("work", [
    {"family": "bert", "task": "classification", "masked": None}, {"family": "bert", "task": "masked_lm", "masked": 12},
    {"family": "gpt2", "task": "causal_lm", "masked": None}], ids=lambda work: work["task"])
def test_the_floor_has_the_products_that_the_step_computes(work, monkeypatch):
    work = {**work, "vocab": 400, "positions": 80, "layers": 3, "width": 128, "heads": 2, "batch": 2, "length": 80}
    counted = []

    def count(trainer, batch):
        numbers = [tf.constant(0, tf.int64), tf.constant(0, tf.int64), {"loss": tf.constant(1.0)}]
        graph = trainer._gradients.get_concrete_function(place(trainer.strategy, batch), *numbers).graph
        counted.append(sum(ops.get_stats_for_node_def(graph, op.node_def, "flops").value
                           for op in graph.get_operations() if "MatMul" in op.type))
        return {}, tf.constant(0.0)

    monkeypatch.setattr(Trainer, "train_step", count)
    tfzoo_steps(work, "no_xla", "float32")(1)
    expected = train_step.floor(work, "float32", {"float32": 1.0, "bytes": 1.0})[1]
    assert expected == pytest.approx(counted[0], rel=0.02)  # the small products of segments and heads are not counted


def test_each_moment_of_a_step_is_shared_by_the_ops_that_run():
    found = profile.shares([("a", 0, 10), ("b", 4, 6), ("a", 5, 6), ("d", 3, 3), ("c", 12, 13)])
    assert found["a"] == pytest.approx(8 + 0.5 + 2 / 3) and found["b"] == pytest.approx(0.5 + 1 / 3)
    assert found["c"] == 1 and found[None] == 2 and sum(found.values()) == pytest.approx(13)


@pytest.mark.parametrize("event, kind", [
    ("StatefulPartitionedCall/MatMul_3:_MklMatMul", "matrix products"), ("BlockUntilReady", "compiled kernels"),
    ("x:AddN", "AddN"), ("x:PartitionedCall", None), ("Threads::Record", None), ("EagerExecute", None),
    ("file.py:12", None)])
def test_only_ops_of_the_step_count_in_a_profile(event, kind):
    assert profile.kind_of(event) == kind
