"""Write transformers' mean-pooled vectors of 1,000 real lines for a real checkpoint: four elements and a cosine each.

Run in an environment with torch 2.13.0 and transformers 4.57.1:
python tests/golden/make_minilm.py FOLDER LINES [OUT]

FOLDER is all-MiniLM-L6-v2, and LINES a JSON file with a list of the lines (tests.helpers.real_lines()).
"""
import json
import pathlib
import sys

import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import families  # noqa: E402


def main():
    folder, lines, *out = sys.argv[1:]
    lines = families.lines_of(json.loads(pathlib.Path(lines).read_text()))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    vectors = []
    for first in range(0, len(lines), 20):
        inputs = tokenizer(lines[first:first + 20], padding=True, truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            sequence = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None]
        vectors.append(((sequence * mask).sum(1) / mask.sum(1)).numpy())
    vectors = np.concatenate(vectors)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = np.random.default_rng(0).choice(vectors.shape[1], 4, replace=False)
    path = out[0] if out else pathlib.Path(__file__).parent / "minilm.npz"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    np.savez_compressed(path, vectors=vectors[:, columns], columns=columns, cosines=unit @ unit[0],
                        about=np.array(json.dumps(versions)))


if __name__ == "__main__":
    main()
