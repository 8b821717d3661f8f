"""Texts encoded per second by tfzoo's tokenizers and the `tokenizers` package: medians of interleaved rounds."""
import json
import os
import pathlib
import statistics
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("data", None, "File with a text column, e.g. $TFZOO_DATA/sentiment_rt/train.jsonl.", required=True)
flags.DEFINE_string("vocabulary", None, "WordPiece vocab.txt, e.g. $TFZOO_DATA/../vocab/bert_uncased/vocab.txt.",
                    required=True)
flags.DEFINE_integer("rounds", 5, "Number of measurements per system.", lower_bound=1)
flags.DEFINE_string("json", None, "Also write the rows to this JSON file.")

BATCH = 2048


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}: only flags are allowed")
    from tokenizers import BertWordPieceTokenizer

    from tfzoo.data.readers import TEXTS
    from tfzoo.data.source import open_source
    from tfzoo.text import load_tokenizer
    texts = open_source(FLAGS.data, TEXTS).texts[0]
    ours, plain = load_tokenizer(FLAGS.vocabulary), load_tokenizer("bytes")
    package = BertWordPieceTokenizer(FLAGS.vocabulary, lowercase=ours.lowercase)
    batches = [texts[first:first + BATCH] for first in range(0, len(texts), BATCH)]
    systems = {("tfzoo", "wordpiece"): ours.encode, ("tfzoo", "bytes"): plain.encode,
               ("tokenizers", "wordpiece"): lambda batch: package.encode_batch(batch, add_special_tokens=False)}
    seconds = {name: [] for name in systems}
    for number in range(FLAGS.rounds + 1):
        for name, encode in systems.items():
            begin = time.perf_counter()
            for batch in batches:
                encode(batch)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    rows = [{"machine": f"{os.cpu_count()} cores"}]
    rows += [{"workload": "encode", "system": system, "variant": variant, "dtype": "int32", "peak_bytes": None,
              "examples_per_second": len(texts) / statistics.median(times)}
             for (system, variant), times in seconds.items()]
    for row in rows[1:]:
        print(f"{row['system']:12}{row['variant']:12}{row['examples_per_second']:12,.0f} texts/s")
    if FLAGS.json:
        pathlib.Path(FLAGS.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    app.run(main)
