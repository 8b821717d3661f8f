"""Compare with live transformers: new random weights and inputs for each seed, through the tests of the golden files.

python tests/golden/compare_live.py --pytorch_python=PYTHON [--seeds 3]
PYTHON has torch 2.13.0 and transformers 4.57.1 (pip install "tfzoo[parity]" in an environment of its own).
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
CHECKOUT = FOLDER.parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pytorch_python", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for seed in range(100, 100 + args.seeds):
        with tempfile.TemporaryDirectory() as out:
            subprocess.run([args.pytorch_python, str(FOLDER / "make_golden.py"), f"--seed={seed}", f"--out={out}"],
                           check=True)
            code = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/models/test_golden.py",
                                   "tests/tasks/test_tasks.py", "-k", "reference"], cwd=CHECKOUT,
                                  env={**os.environ, "TFZOO_GOLDEN": out}).returncode
        print(f"seed {seed}: {'equal' if code == 0 else 'DIFFERENT'}", flush=True)
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
