"""Profile a tfzoo training step by op with TensorFlow's profiler, next to its floor (see benchmarks.train_step).

Ops that run simultaneously share the time equally, so the rows add up to the step time.
"""
import collections
import pathlib
import tempfile

from absl import app, flags

from benchmarks.interleave import DTYPES, add_flags, refuse_words, report
from benchmarks.peaks import peaks
from benchmarks.train_step import floor
from benchmarks.worker import WORKLOADS, tfzoo_steps
from experiments.app import import_tensorflow

FLAGS = flags.FLAGS
add_flags(rounds=1, steps=4, peers=False)
flags.DEFINE_multi_enum("workload", ["bert_small"], sorted(WORKLOADS), "Workload to train; repeatable.",
                        allow_override=True)
flags.DEFINE_enum("dtype", "bfloat16", DTYPES, "Compute dtype.")

# Ops that contain other ops or wait for them.
HOLDERS = {"StatefulPartitionedCall", "PartitionedCall", "If", "While"}
KINDS = {"MatMul": "matrix products", "Cast": "casts of weights and gradients"}
# BlockUntilReady waits for parts of a kernel that run on other threads.
KERNELS = {"CpuExecutable::ExecuteAsyncOnStream", "BlockUntilReady"}


def kind_of(event):
    """Return the kind of op that a profile event "NAME:OP" represents: str, or None if it is not an op in the step."""
    if event in KERNELS:
        return "compiled kernels"
    op = event.rpartition(":")[2]
    if ":" not in event or "::" in event or not op.isidentifier() or op in HOLDERS:
        return None
    return next((kind for part, kind in KINDS.items() if part in op), op)


def shares(events):
    """Compute the time spent in each kind of event; simultaneous events share time equally.

    Args:
        events: list of (kind, begin, end), numbers.

    Returns:
        dict of kind -> time; the key None holds the time during which no event runs.
    """
    events = [event for event in events if event[1] < event[2]]
    moments = sorted([(begin, True, number) for number, (_, begin, _) in enumerate(events)]
                     + [(end, False, number) for number, (_, _, end) in enumerate(events)])
    found, running, before = collections.Counter(), set(), None
    for moment, begins, number in moments:
        for other in running:
            found[events[other][0]] += (moment - before) / len(running)
        if before is not None and not running:
            found[None] += moment - before
        before = moment
        (running.add if begins else running.discard)(number)
    return found


def events_of(folder):
    """Return the op events in a profile folder: list of (kind, begin, end), in picoseconds."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2
    space, found = xplane_pb2.XSpace(), []
    space.ParseFromString(next(pathlib.Path(folder).rglob("*.xplane.pb")).read_bytes())
    for plane in space.planes:
        if "CPU" not in plane.name:
            continue
        kinds = {key: kind_of(value.name) for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                if kinds[event.metadata_id]:
                    begin = line.timestamp_ns * 1000 + event.offset_ps
                    found.append((kinds[event.metadata_id], begin, begin + event.duration_ps))
    return found


def profile(work, dtype, steps):
    """Profile training steps on a workload and return the seconds per step spent in each kind of op: dict."""
    import tensorflow as tf
    run = tfzoo_steps(work, "no_xla", dtype)
    run(4)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run(steps)
        tf.profiler.experimental.stop()
        return {kind or "no op runs": time / 1e12 / steps for kind, time in shares(events_of(folder)).items()}


def main(argv):
    refuse_words(argv)
    import_tensorflow()
    rates, rows = peaks(), []
    for workload in FLAGS.workload:
        work = WORKLOADS[workload]
        _, flops, moved = floor(work, FLAGS.dtype, rates)
        least = {"matrix products": flops / rates[FLAGS.dtype], "the optimizer's bytes": moved / rates["bytes"]}
        found = profile(work, FLAGS.dtype, FLAGS.steps)
        found = {**{kind: 0.0 for kind in least}, **found}
        small = {kind for kind, seconds in found.items() if seconds < sum(found.values()) / 200} - set(least)
        found["others"] = sum(found.pop(kind) for kind in small)
        found["in all"] = sum(found.values())
        least["in all"] = sum(least.values())
        rows += [{"workload": workload, "dtype": FLAGS.dtype, "what": kind, "ms": 1000 * seconds,
                  "floor ms": 1000 * least.get(kind, 0.0), "share": seconds / found["in all"]}
                 for kind, seconds in sorted(found.items(), key=lambda item: (item[0] == "in all", -item[1]))]
    report(rows, {"workload": "{}", "dtype": "{}", "what": "{}", "ms": "{:>.1f}", "floor ms": "{:>.1f}",
                  "share": "{:>.0%}"}, FLAGS.json)


if __name__ == "__main__":
    app.run(main)
