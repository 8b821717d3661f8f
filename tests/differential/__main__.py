"""Search random cases for differences between tfzoo and its reference implementations.

python -m tests.differential --reference_python=PYTHON [--only=configs,tokenizers] [--count=200] [--seed=0]
prints one finding per line and exits with 1 if there are any.
"""
import importlib
import sys

from absl import app, flags

PARTS = ("configs", "tokenizers", "data", "decoding", "metrics", "generation")
FLAGS = flags.FLAGS
flags.DEFINE_string("reference_python", None, "Python interpreter with the reference implementations.", required=True)
flags.DEFINE_list("only", list(PARTS), f"Parts to run, chosen from {', '.join(PARTS)}.")
flags.DEFINE_integer("count", 200, "Number of cases per part.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Random seed of the cases.")
flags.register_validator("only", lambda parts: set(parts) <= set(PARTS), f"choose from {', '.join(PARTS)}")


def main(words):
    if words[1:]:
        raise app.UsageError(f"unexpected argument {words[1]!r}: only flags are accepted")
    findings = []
    for part in FLAGS.only:
        module = importlib.import_module(f"tests.differential.{part}")
        for finding in module.check(FLAGS.reference_python, FLAGS.count, FLAGS.seed):
            print(finding, flush=True)
            findings.append(finding)
    sys.exit(bool(findings))


if __name__ == "__main__":
    app.run(main)
