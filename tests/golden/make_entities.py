"""Write seqeval's scores for random tags of every scheme, in its default mode, which matches conlleval.

Run from the checkout in an environment with seqeval 1.2.2: python -m tests.golden.make_entities
"""
import importlib.metadata
import json
import pathlib

from seqeval.metrics import accuracy_score, classification_report

from tests.records.conlleval import SAME, SCHEMES, random_sentences

FILE = pathlib.Path(__file__).parent / "entities.json"
TYPES = ("PER", "LOC", "creative-work")


def known(sentence):
    """Return the tags of a sentence with U, L and M replaced, which seqeval's default mode does not know."""
    return [SAME.get(tag[0], tag[0]) + tag[1:] for tag in sentence]


def main():
    scores = {}
    for scheme in SCHEMES:
        true, predicted = random_sentences(scheme, 120, 1), random_sentences(scheme, 120, 2)
        # Make the predictions as long as the true tags, and often correct.
        predicted = [[one if (number + place) % 2 else other for place, (one, other) in enumerate(
            zip(tags, guess + ["O"] * len(tags)))] for number, (tags, guess) in enumerate(zip(true, predicted))]
        report = classification_report([known(tags) for tags in true], [known(tags) for tags in predicted],
                                       output_dict=True, zero_division=0)
        micro = report["micro avg"]
        metrics = {"f1": micro["f1-score"], "precision": micro["precision"], "recall": micro["recall"],
                   **{f"f1/{kind}": report[kind]["f1-score"] for kind in sorted(TYPES)}}
        scores[scheme] = {"predicted": [" ".join(tags) for tags in predicted],
                          "true": [" ".join(tags) for tags in true], "accuracy": accuracy_score(true, predicted),
                          "metrics": {name: float(value) for name, value in metrics.items()}}
    versions = {name: importlib.metadata.version(name) for name in ("seqeval", "scikit-learn", "numpy")}
    FILE.write_text(json.dumps({"versions": versions, "scores": scores}, indent=0) + "\n")


if __name__ == "__main__":
    main()
