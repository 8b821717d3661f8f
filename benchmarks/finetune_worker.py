"""Worker process that trains a text classifier with one system on real texts (benchmarks.worker uses random tokens).

Run as `python -m benchmarks.finetune_worker RECIPE SYSTEM VARIANT DTYPE`, where RECIPE is JSON from
benchmarks.finetune. A worker imports only its own system, and uses it as its users would: tfzoo encodes all texts up
front and pads to a few lengths; keras-nlp encodes in tf.data and pads to the full length; PyTorch encodes in the
training loop and pads to the longest text in the batch. PyTorch can also start from the recipe's `checkpoint`. All
systems share one schedule: linear warmup over `warmup` steps, then linear decay to 0 at `steps`; if `steps` is 0, the
rate is constant.
"""
import collections
import csv
import json
import statistics
import sys
import time

from benchmarks.worker import POLICIES, answer


class Clock:
    """Record step times, grouped by the length that a step was compiled for, or None."""

    def __init__(self):
        self.times, self.begin = collections.defaultdict(list), None

    def start(self):
        self.begin = time.perf_counter()

    def stop(self, kind=None):
        """Record the time since the last call, and start timing the next step."""
        now = time.perf_counter()
        self.times[kind].append(now - self.begin)
        self.begin = now

    @property
    def compiling(self):
        """Return the compile time in seconds: the first step minus the median of the others, summed over lengths."""
        return sum(max(0.0, times[0] - statistics.median(times[1:])) for times in self.times.values() if len(times) > 1)


def rate_at(recipe, step):
    """Return the learning rate at a step; steps are counted from 0."""
    if not recipe["steps"]:
        return recipe["rate"]
    if step < recipe["warmup"]:
        return recipe["rate"] * (step + 1) / recipe["warmup"]
    return recipe["rate"] * max(0.0, (recipe["steps"] - step) / max(1, recipe["steps"] - recipe["warmup"]))


def examples_of(file):
    """Read (texts, label indices) from a .jsonl or .tsv file with `text` and `label` columns: two lists."""
    with open(file, encoding="utf-8", newline="") as lines:
        rows = ([json.loads(line) for line in lines] if file.endswith(".jsonl") else
                list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)))
    labels = sorted({row["label"] for row in rows})
    return [row["text"] for row in rows], [labels.index(row["label"]) for row in rows]


def order_of(recipe, count):
    """Return the example indices for 20 shuffled epochs: int64 [20 x count]."""
    import numpy as np
    rng = np.random.default_rng(recipe["seed"])
    return np.concatenate([rng.permutation(count) for _ in range(20)])


def tfzoo_steps(recipe, variant, dtype):
    """Return functions that train and evaluate with tfzoo; the only variant is `bucketed`."""
    import keras

    import tfzoo
    from tfzoo.data.source import open_source
    from tfzoo.tasks import task_of
    from tfzoo.text import load_tokenizer
    from tfzoo.training.optimizer import WarmUp, make_optimizer
    from tfzoo.training.trainer import Trainer
    keras.utils.set_random_seed(recipe["seed"])
    sources = [open_source(recipe[split]) for split in ("train", "eval")]
    tokenizer, labels = load_tokenizer(recipe["vocabulary"]), sources[0].labels()
    task = task_of("classification", labels)
    data, held = (task.features(source, tokenizer, batch_size=recipe["batch"], max_length=recipe["length"],
                                seed=recipe["seed"], training=training)
                  for source, training in zip(sources, (True, False)))
    model = tfzoo.build("bert_tiny", task="classification", labels=labels, dtype=POLICIES[dtype],
                        dropout=recipe["dropout"], vocab_size=tokenizer.vocab_size, num_layers=recipe["layers"],
                        hidden_dim=recipe["width"], num_heads=recipe["heads"], ffn_dim=recipe["ffn"])
    schedule = WarmUp(recipe["rate"], recipe["steps"], recipe["warmup"]) if recipe["steps"] else recipe["rate"]
    optimizer = make_optimizer("adamw", schedule, model.trainable_variables, recipe["decay"])
    trainer, clock = Trainer(model, task, optimizer, recipe["seed"], recipe["clip"]), Clock()
    if recipe["compile_first"]:
        lengths = {data.base.plan.batch(step)[0]: step for step in range(data.batches_per_epoch)}
        for step in lengths.values():
            trainer.train_step(data.batch(step))

    def steps(count):
        begin = trainer.step
        clock.start()
        for number, _, norm, *_ in trainer.train(data, begin + count):
            clock.stop(data.base.plan.batch(number - 1)[0])
        float(norm)
        return {"examples": sum(len(data.examples(step)) for step in range(begin, begin + count)),
                "compile_seconds": clock.compiling}

    return steps, lambda count: {"accuracy": trainer.evaluator.evaluate(held)["accuracy"]}


def keras_nlp_steps(recipe, variant, dtype):
    """Return functions that train and evaluate with keras-nlp; `variant` is `xla` or `no_xla`."""
    import keras
    import keras_nlp
    import numpy as np
    import tensorflow as tf
    keras.utils.set_random_seed(recipe["seed"])
    batch, models = recipe["batch"], keras_nlp.models
    tokenizer = models.BertTokenizer(vocabulary=recipe["vocabulary"], lowercase=True)
    prepare = models.BertTextClassifierPreprocessor(tokenizer, sequence_length=recipe["length"])
    backbone = models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size(), num_layers=recipe["layers"], num_heads=recipe["heads"],
        hidden_dim=recipe["width"], intermediate_dim=recipe["ffn"], dropout=recipe["dropout"], dtype=POLICIES[dtype])
    model = models.BertTextClassifier(backbone, num_classes=2, preprocessor=None, dropout=recipe["dropout"])

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return tf.gather(tf.constant([rate_at(recipe, step) for step in range(max(1, recipe["steps"]))]),
                             tf.minimum(step, max(1, recipe["steps"]) - 1))

    optimizer = keras.optimizers.AdamW(Schedule(), weight_decay=recipe["decay"], global_clipnorm=recipe["clip"] or None)
    optimizer.exclude_from_weight_decay(var_names=["bias", "norm"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=variant == "xla")
    texts, labels = (tf.constant(values) for values in examples_of(recipe["train"]))
    order, done = tf.constant(order_of(recipe, len(texts))), tf.Variable(0, dtype=tf.int64)
    # `fit` makes a new iterator each time; the offset `done` lets it continue where the previous one ended.
    data = tf.data.Dataset.range(2 ** 60).map(lambda number: order[(done + number) % len(order)])
    data = data.map(lambda row: (texts[row], labels[row])).batch(batch, drop_remainder=True)
    data = data.map(prepare, num_parallel_calls=2).prefetch(2)
    held, right = examples_of(recipe["eval"])
    held = tf.data.Dataset.from_tensor_slices(held).batch(batch).map(prepare, num_parallel_calls=2).prefetch(2)
    clock = Clock()
    each = keras.callbacks.LambdaCallback(on_train_batch_end=lambda number, logs: clock.stop())

    def steps(count):
        more = count + recipe["compile_first"]  # the first step waits for the pipeline and is not counted
        clock.start()
        model.fit(data, steps_per_epoch=more, epochs=1, verbose=0, callbacks=[each])
        done.assign_add(more * batch)
        found = {"examples": count * batch, "compile_seconds": clock.compiling}
        return {**found, "seconds": sum(clock.times[None][-count:])} if recipe["compile_first"] else found

    def evaluate(count):
        return {"accuracy": float((model.predict(held, verbose=0).argmax(-1) == np.array(right)).mean())}

    return steps, evaluate


def pytorch_steps(recipe, variant, dtype):
    """Return functions that train and evaluate with PyTorch; the only variant is `eager`."""
    import torch
    import transformers
    torch.manual_seed(recipe["seed"])
    batch = recipe["batch"]
    texts, labels = examples_of(recipe["train"])
    held, right = examples_of(recipe["eval"])
    if "checkpoint" in recipe:
        tokenizer = transformers.AutoTokenizer.from_pretrained(recipe["checkpoint"])
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            recipe["checkpoint"], num_labels=len(set(labels)), hidden_dropout_prob=recipe["dropout"],
            attention_probs_dropout_prob=recipe["dropout"])
    else:
        tokenizer = transformers.BertTokenizerFast(recipe["vocabulary"], do_lower_case=True)
        model = transformers.BertForSequenceClassification(transformers.BertConfig(
            vocab_size=len(tokenizer), num_hidden_layers=recipe["layers"], num_attention_heads=recipe["heads"],
            hidden_size=recipe["width"], intermediate_size=recipe["ffn"], hidden_dropout_prob=recipe["dropout"],
            attention_probs_dropout_prob=recipe["dropout"], num_labels=2))
    fixed = [weight for name, weight in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    known = {id(weight) for weight in fixed}
    optimizer = torch.optim.AdamW([
        {"params": [weight for weight in model.parameters() if id(weight) not in known]},
        {"params": fixed, "weight_decay": 0.0}], lr=recipe["rate"], weight_decay=recipe["decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(recipe, step) / recipe["rate"])
    rows, clock = iter(order_of(recipe, len(texts)).tolist() * 1000), Clock()

    def logits_of(texts):
        inputs = tokenizer(texts, truncation=True, max_length=recipe["length"], padding=True, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            return model(**inputs).logits

    def steps(count):
        model.train()
        clock.start()
        for _ in range(count):
            chosen = [next(rows) for _ in range(batch)]
            targets = torch.tensor([labels[row] for row in chosen])
            loss = torch.nn.functional.cross_entropy(logits_of([texts[row] for row in chosen]).float(), targets)
            loss.backward()
            if recipe["clip"]:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["clip"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            clock.stop()
        return {"examples": count * batch, "compile_seconds": clock.compiling}

    def evaluate(count):
        model.eval()
        with torch.inference_mode():
            guesses = [guess for first in range(0, len(held), batch)
                       for guess in logits_of(held[first:first + batch]).argmax(-1).tolist()]
        return {"accuracy": sum(a == b for a, b in zip(guesses, right)) / len(right)}

    return steps, evaluate


SYSTEMS = {"tfzoo": tfzoo_steps, "keras-nlp": keras_nlp_steps, "pytorch": pytorch_steps}


def main():
    recipe, system, variant, dtype = sys.argv[1:]
    steps, evaluate = SYSTEMS[system](json.loads(recipe), variant, dtype)
    answer(steps, evaluate=evaluate, ready=lambda count: None)


if __name__ == "__main__":
    main()
