"""Worker process that fine-tunes one system for one task on real data (see benchmarks.tasks).

Run as `python -m benchmarks.tasks_worker RECIPE SYSTEM VARIANT DTYPE`, where RECIPE is JSON from benchmarks.tasks. A
worker imports only its own system. PyTorch's loops are those that its users write with transformers: AdamW, clipping,
autocast, and tensors padded to the longest row; their rows are encoded before the first step.
"""
import csv
import json
import random
import re
import sys

from benchmarks.worker import POLICIES, answer


def batches_of(lengths, size, grouped, seed):
    """Yield the row indices of each batch of shuffled epochs, without end: list of int.

    Args:
        lengths: list of int, the length of each row.
        size: int, rows per batch; an incomplete last batch is dropped.
        grouped: bool, whether rows are sorted by length within 50 batches, as by transformers' LengthGroupedSampler.
        seed: int.
    """
    source, order = random.Random(seed), list(range(len(lengths)))
    while True:
        source.shuffle(order)
        batches = []
        for first in range(0, len(order), 50 * size):
            part = order[first:first + 50 * size]
            if grouped:
                part.sort(key=lengths.__getitem__, reverse=True)
            batches += [part[begin:begin + size] for begin in range(0, len(part) - size + 1, size)]
        source.shuffle(batches)
        yield from batches


def tfzoo_steps(recipe, variant, dtype):
    """Return functions that train and evaluate with tfzoo; the only variant is `bucketed`."""
    import keras

    import tfzoo
    from tfzoo.checkpoints.folder import with_head
    from tfzoo.data.source import open_source
    from tfzoo.tasks import build_for, task_of, tasks
    from tfzoo.text import learn_tokenizer
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.trainer import Trainer
    keras.utils.set_random_seed(recipe["seed"])
    kind = tasks()[recipe["task"]]
    source, held = (open_source(recipe[split], kind.schema) for split in ("train", "eval"))
    task = task_of(recipe["task"], kind.labels_in(source) if kind.labelled else None,
                   **({"overlap": recipe["overlap"]} if recipe["task"] == "question_answering" else {}))
    task.adapt(source)
    if recipe["task"] == "seq2seq":
        tokenizer = learn_tokenizer(f"learn:bpe:{recipe['vocab']}", source.passages())
        model = build_for("transformer_tiny", task, dtype=POLICIES[dtype], vocab_size=tokenizer.vocab_size,
                          dropout=recipe["dropout"], num_layers=recipe["layers"], hidden_dim=recipe["width"],
                          num_heads=recipe["heads"], ffn_dim=recipe["ffn"])
    else:
        loaded = tfzoo.load(recipe["checkpoint"])
        tokenizer, (model, *_) = loaded.tokenizer, with_head(loaded, task, POLICIES[dtype])
    options = {"batch_size": recipe["batch"], "max_length": recipe["length"]}
    data = task.features(source, tokenizer, **options, seed=recipe["seed"], training=True)
    held = task.features(held, tokenizer, **options)
    optimizer = make_optimizer("adamw", recipe["rate"], model.trainable_variables, recipe["decay"])
    trainer = Trainer(model, task, optimizer, recipe["seed"], recipe["clip"])
    shapes = {tuple(value.shape for value in data.batch(step).values()): step
              for step in range(min(data.batches_per_epoch, 200))}
    for step in shapes.values():  # compile all lengths before the first measurement
        trainer.train_step(data.batch(step))

    def steps(count):
        begin = trainer.step
        for _, _, norm, *_ in trainer.train(data, begin + count):
            pass
        float(norm)
        return {"examples": sum(int((data.rows(step) >= 0).sum()) for step in range(begin, begin + count))}

    return steps, lambda count: trainer.evaluator.evaluate(held) and None


def pytorch_steps(recipe, variant, dtype):
    """Return functions that train and evaluate with PyTorch; `variant` is `grouped` or `random`."""
    import torch
    torch.manual_seed(recipe["seed"])
    torch.backends.mha.set_fastpath_enabled(False)  # torch.nn.Transformer's does not work with autocast
    model, train, held, collate = (_translation if recipe["task"] == "seq2seq" else _encoder)(recipe)
    fixed = [weight for name, weight in model.named_parameters() if "bias" in name or "norm" in name.lower()]
    known = {id(weight) for weight in fixed}
    optimizer = torch.optim.AdamW([
        {"params": [weight for weight in model.parameters() if id(weight) not in known]},
        {"params": fixed, "weight_decay": 0.0}], lr=recipe["rate"], weight_decay=recipe["decay"])
    lengths = [len(row["input_ids"]) for row in train]
    batches = batches_of(lengths, size=recipe["batch"], grouped=variant == "grouped", seed=recipe["seed"])
    cast = {"device_type": "cpu", "dtype": torch.bfloat16, "enabled": dtype == "bfloat16"}

    def steps(count):
        model.train()
        for _ in range(count):
            inputs = collate([train[row] for row in next(batches)])
            with torch.autocast(**cast):
                loss = model(**inputs)[0]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["clip"])
            optimizer.step()
            optimizer.zero_grad()
        return {"examples": count * recipe["batch"]}

    def evaluate(count):
        model.eval()
        order = sorted(range(len(held)), key=lambda row: len(held[row]["input_ids"]))
        with torch.inference_mode(), torch.autocast(**cast):
            for first in range(0, len(order), recipe["batch"]):
                found = model(**collate([held[row] for row in order[first:first + recipe["batch"]]]))
                found = list(found.values()) if hasattr(found, "values") else found
                [each.float().argmax(-1).tolist() for each in found[1:3]]  # logits

    return steps, evaluate


def _encoder(recipe):
    # MiniLM with a head of transformers, the rows of both splits, and the function that makes a batch of them.
    import torch
    import transformers
    read = {"classification": _classified, "tagging": _tagged, "question_answering": _answered}[recipe["task"]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(recipe["checkpoint"])
    kind = {"classification": "SequenceClassification", "tagging": "TokenClassification",
            "question_answering": "QuestionAnswering"}[recipe["task"]]
    labels, train, held = [], *(read(recipe, split, tokenizer) for split in ("train", "eval"))
    if recipe["task"] != "question_answering":
        labels = sorted({label for row in train + held for label in row["names"]})
        for row in train + held:
            row["labels"] = [labels.index(label) for label in row.pop("names")]
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
        recipe["checkpoint"], **({"num_labels": len(labels)} if labels else {}))

    def collate(rows):
        width = max(len(row["input_ids"]) for row in rows)
        batch = {"input_ids": torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows]),
                 "token_type_ids": torch.tensor([row["token_type_ids"] + [0] * (width - len(row["input_ids"]))
                                                 for row in rows]),
                 "attention_mask": torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"]))
                                                 for row in rows])}
        if recipe["task"] == "classification":
            batch["labels"] = torch.tensor([row["labels"][0] for row in rows])
        elif recipe["task"] == "tagging":
            batch["labels"] = torch.full((len(rows), width), -100)
            for number, row in enumerate(rows):
                batch["labels"][number, row["places"]] = torch.tensor(row["labels"])
        else:
            for name in ("start_positions", "end_positions"):
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch

    return model, train, held, collate


def _classified(recipe, split, tokenizer):
    with open(recipe[split], encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=recipe["length"])
    return [{"input_ids": ids, "token_type_ids": kinds, "names": [row["label"]]}
            for row, ids, kinds in zip(rows, encoded["input_ids"], encoded["token_type_ids"])]


def _tagged(recipe, split, tokenizer):
    with open(recipe[split], encoding="utf-8") as file:
        sentences = [[line.split() for line in part.splitlines() if line.strip()]
                     for part in re.split(r"\n\s*\n", file.read().strip())]
    found = []
    for words in sentences:
        encoded = tokenizer([word[0] for word in words], is_split_into_words=True, truncation=True,
                            max_length=recipe["length"])
        first = {}
        for place, word in enumerate(encoded.word_ids()):
            if word is not None:
                first.setdefault(word, place)
        found.append({"input_ids": encoded["input_ids"], "token_type_ids": encoded["token_type_ids"],
                      "places": list(first.values()), "names": [words[word][-1] for word in first]})
    return found


def _answered(recipe, split, tokenizer):
    with open(recipe[split], encoding="utf-8") as file:
        pages = json.load(file)["data"]
    found = []
    for context, question in ((part["context"], question) for page in pages for part in page["paragraphs"]
                              for question in part["qas"]):
        encoded = tokenizer(question["question"].lstrip(), context, truncation="only_second",
                            max_length=recipe["length"], stride=recipe["overlap"], return_overflowing_tokens=True,
                            return_offsets_mapping=True)
        begin = question["answers"][0]["answer_start"]
        end = begin + len(question["answers"][0]["text"])
        for number, ids in enumerate(encoded["input_ids"]):
            offsets, kinds = encoded["offset_mapping"][number], encoded.sequence_ids(number)
            inside = [place for place, kind in enumerate(kinds) if kind == 1]
            start = stop = 0
            if offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= end:
                start = max(place for place in inside if offsets[place][0] <= begin)
                stop = min(place for place in inside if offsets[place][1] >= end)
            found.append({"input_ids": ids, "token_type_ids": encoded["token_type_ids"][number],
                          "start_positions": start, "end_positions": stop})
    return found


def _translation(recipe):
    # torch.nn.Transformer with one table for source, target and output, and rows encoded with BPE of both languages.
    import tokenizers
    import torch
    texts = {}
    for split in ("train", "eval"):
        with open(recipe[split], encoding="utf-8", newline="") as lines:
            texts[split] = [(row["source"], row["target"]) for row in
                            csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator((text for pair in texts["train"] for text in pair), recipe["vocab"],
                                  special_tokens=["<pad>", "<end>"], show_progress=False)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(recipe["vocab"], recipe["width"], padding_idx=0)
            self.places = torch.nn.Embedding(recipe["length"], recipe["width"])
            self.transformer = torch.nn.Transformer(
                recipe["width"], recipe["heads"], recipe["layers"], recipe["layers"], recipe["ffn"],
                recipe["dropout"], batch_first=True)

        def embed(self, ids):
            return self.table(ids) * recipe["width"] ** 0.5 + self.places(torch.arange(ids.shape[1]))

        def forward(self, source, target, labels):
            future = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
            hidden = self.transformer(self.embed(source), self.embed(target), tgt_mask=future,
                                      src_key_padding_mask=source == 0, memory_key_padding_mask=source == 0)
            logits = torch.nn.functional.linear(hidden[labels >= 0], self.table.weight)
            return torch.nn.functional.cross_entropy(logits.float(), labels[labels >= 0]), logits

    def rows_of(split):
        limit = recipe["length"] - 1
        parts = [[each.ids[:limit] for each in tokenizer.encode_batch([pair[side] for pair in texts[split]])]
                 for side in (0, 1)]
        return [{"input_ids": max(source, target, key=len), "source": source + [1], "target": target}
                for source, target in zip(*parts)]

    def padded(rows, value):
        width = max(map(len, rows))
        return torch.tensor([row + [value] * (width - len(row)) for row in rows])

    def collate(rows):
        return {"source": padded([row["source"] for row in rows], 0),
                "target": padded([[0, *row["target"]] for row in rows], 0),
                "labels": padded([[*row["target"], 1] for row in rows], -100)}

    return Model(), rows_of("train"), rows_of("eval"), collate


def main():
    recipe, system, variant, dtype = sys.argv[1:]
    make = {"tfzoo": tfzoo_steps, "pytorch": pytorch_steps}[system]
    steps, evaluate = make(json.loads(recipe), variant, dtype)
    answer(steps, evaluate=evaluate)


if __name__ == "__main__":
    main()
