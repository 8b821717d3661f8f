"""Write vectors.npz: sentence-transformers' vectors for the texts and folders in vectors.py.

Run from the checkout in an environment with torch 2.13.0, transformers 4.57.1 and sentence-transformers 5.1.2:
python -m tests.golden.make_vectors [OUT]
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import sentence_transformers
import torch
import transformers

from tests.golden import vectors


def main():
    arrays = {}
    for case in vectors.CASES:
        with tempfile.TemporaryDirectory() as folder:
            vectors.write_folder(case, pathlib.Path(folder) / "model")
            model = sentence_transformers.SentenceTransformer(f"{folder}/model", device="cpu", local_files_only=True)
            arrays[case] = model.encode(vectors.TEXTS)
            if "passage" in model.prompts:
                arrays[f"{case}:passage"] = model.encode(vectors.TEXTS, prompt_name="passage")
    versions = {module.__name__: module.__version__ for module in (sentence_transformers, torch, transformers)}
    out = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "vectors.npz"
    np.savez_compressed(out, about=np.array(json.dumps(versions)), **arrays)


if __name__ == "__main__":
    main()
