"""Worker process that builds a model with one system, then runs the number of steps that each line on stdin requests.

The benchmarks run it as `python -m benchmarks.worker WORKLOAD SYSTEM VARIANT DTYPE`, where WORKLOAD is a key of
WORKLOADS or a JSON object with the same fields as its entries. A worker imports only its own system, so that PyTorch
can have its own environment. Each answer is a JSON line with the time that the steps took (in seconds), the peak
resident memory so far, and the peak resident memory before the first step (both in bytes).
"""
import json
import resource
import sys
import time

RATE, DECAY, DROPOUT, LABELS = 1e-4, 0.01, 0.1, 2
_BERT = {"family": "bert", "task": "classification", "vocab": 30522, "positions": 512}
_GPT2 = {"family": "gpt2", "task": "causal_lm", "vocab": 50257, "positions": 1024}
WORKLOADS = {
    "bert_small": {**_BERT, "layers": 4, "width": 512, "heads": 8, "batch": 32, "length": 128},
    "bert_small_masked_lm": {**_BERT, "task": "masked_lm", "layers": 4, "width": 512, "heads": 8, "batch": 32,
                             "length": 128, "masked": 19},
    "bert_base": {**_BERT, "layers": 12, "width": 768, "heads": 12, "batch": 8, "length": 128},
    "gpt2": {**_GPT2, "layers": 12, "width": 768, "heads": 12, "batch": 4, "length": 256},
    "bytes": {**_GPT2, "layers": 4, "width": 256, "heads": 4, "batch": 16, "length": 256, "vocab": 260},
}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def make_batch(work):
    """Return (token ids int32 [B, T]; labels int32 [B], [B, P] or [B, T]; masked positions int32 [B, P] or None)."""
    import numpy as np
    rng = np.random.default_rng(0)
    shape = (work["batch"], work["length"])
    tokens = rng.integers(5, work["vocab"], shape).astype(np.int32)
    if work["task"] == "classification":
        return tokens, rng.integers(0, LABELS, work["batch"]).astype(np.int32), None
    if work["task"] == "causal_lm":
        return tokens, np.roll(tokens, -1, 1), None
    places = np.sort(rng.permuted(np.tile(np.arange(work["length"]), (work["batch"], 1)), axis=1)[:, :work["masked"]])
    return tokens, np.take_along_axis(tokens, places, 1), places.astype(np.int32)


def tfzoo_steps(work, variant, dtype):
    """Return a function that trains with tfzoo for a given number of steps.

    `variant` is `xla` or `no_xla`. Append ` all` to compute all positions in the last block, even those that the head
    does not read.
    """
    import numpy as np
    import tfzoo
    from tfzoo.tasks import task_of
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.trainer import Trainer
    tokens, labels, places = make_batch(work)
    names = [str(number) for number in range(LABELS)] if work["task"] == "classification" else None
    model = tfzoo.build(
        {"bert": "bert_tiny", "gpt2": "gpt2_tiny"}[work["family"]], task=work["task"], labels=names,
        dtype=POLICIES[dtype], dropout=DROPOUT, vocab_size=work["vocab"], num_layers=work["layers"],
        hidden_dim=work["width"], num_heads=work["heads"], ffn_dim=4 * work["width"], max_length=work["positions"])
    if variant.endswith("all"):
        model.head.reads = lambda inputs, body: None
    optimizer = make_optimizer("adamw", RATE, model.trainable_variables, DECAY)
    trainer = Trainer(model, task_of(work["task"], names), optimizer, clip_norm=0.0,
                      xla=variant.split()[0] == "xla")
    batch = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "labels": labels,
             "weights": np.ones(labels.shape, np.float32)}
    if work["family"] == "bert":
        batch["segment_ids"] = np.zeros_like(tokens)
    if places is not None:
        batch["masked_positions"] = places

    def steps(count):
        for _ in range(count):
            norm = trainer.train_step(batch)[1]
        float(norm)

    return steps


def keras_nlp_steps(work, variant, dtype):
    """Return a function that trains with keras-nlp; `variant` is `xla` or `no_xla`."""
    import keras
    import keras_nlp
    import numpy as np
    import tensorflow as tf
    tokens, labels, places = make_batch(work)
    models = keras_nlp.models
    backbone = (models.BertBackbone if work["family"] == "bert" else models.GPT2Backbone)(
        vocabulary_size=work["vocab"], num_layers=work["layers"], num_heads=work["heads"], hidden_dim=work["width"],
        intermediate_dim=4 * work["width"], dropout=DROPOUT, max_sequence_length=work["positions"],
        dtype=POLICIES[dtype])
    if work["task"] == "classification":
        model = models.BertTextClassifier(backbone, num_classes=LABELS, preprocessor=None, dropout=DROPOUT)
    else:
        model = (models.BertMaskedLM if places is not None else models.GPT2CausalLM)(backbone, preprocessor=None)
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "norm"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=variant == "xla")
    inputs = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    if work["family"] == "bert":
        inputs["segment_ids"] = np.zeros_like(tokens)
    if places is not None:
        inputs["mask_positions"] = places
    data = tf.data.Dataset.from_tensors((inputs, labels)).cache().repeat()

    def steps(count):
        model.fit(data, steps_per_epoch=count, epochs=1, verbose=0)

    return steps


def pytorch_steps(work, variant, dtype):
    """Return a function that trains with PyTorch; `variant` is `eager` or `compiled`."""
    import numpy as np
    import torch
    import transformers
    torch.manual_seed(0)
    tokens, labels, places = make_batch(work)
    if work["family"] == "bert":
        config = transformers.BertConfig(
            vocab_size=work["vocab"], num_hidden_layers=work["layers"], num_attention_heads=work["heads"],
            hidden_size=work["width"], intermediate_size=4 * work["width"], hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=DROPOUT, max_position_embeddings=work["positions"], num_labels=LABELS)
        kind = transformers.BertForMaskedLM if places is not None else transformers.BertForSequenceClassification
        model = kind(config)
    else:
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
            vocab_size=work["vocab"], n_layer=work["layers"], n_head=work["heads"], n_embd=work["width"],
            n_positions=work["positions"], resid_pdrop=DROPOUT, embd_pdrop=DROPOUT, attn_pdrop=DROPOUT))
        labels = tokens  # the model shifts the labels itself
    if places is not None:
        everywhere = np.full(tokens.shape, -100)
        np.put_along_axis(everywhere, places, labels, 1)
        labels = everywhere
    tokens, labels = (torch.tensor(array, dtype=torch.long) for array in (tokens, labels))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    forward = torch.compile(model) if variant == "compiled" else model

    def steps(count):
        for _ in range(count):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = forward(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return steps


SYSTEMS = {"tfzoo": tfzoo_steps, "keras-nlp": keras_nlp_steps, "pytorch": pytorch_steps}


def workload_of(name):
    """Return the workload for a name or a JSON string: dict."""
    return json.loads(name) if name.startswith("{") else WORKLOADS[name]


def fit_seconds(model, data, count):
    """Return the seconds that `count` steps of Keras' `fit` take, after one step that waits for the input pipeline."""
    import keras
    ends = []
    each = keras.callbacks.LambdaCallback(on_train_batch_end=lambda number, logs: ends.append(time.perf_counter()))
    model.fit(data, steps_per_epoch=1 + count, epochs=1, verbose=0, callbacks=[each])
    return ends[-1] - ends[0]


def _peak():
    try:  # ru_maxrss includes what the parent used before it started this process
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def answer(steps, **others):
    """Answer each line of stdin, "COUNT" or "WORD COUNT", with a JSON line.

    Args:
        steps: callable that answers lines without a word. It takes COUNT and returns a dict or None. The dict is merged
            into the answer; if it contains `seconds`, they replace the time measured around the call.
        others: a callable of the same kind for each WORD.
    """
    built = _peak()
    for line in sys.stdin:
        *word, count = line.split()
        begin = time.perf_counter()
        found = (others[word[0]] if word else steps)(int(count))
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "peak_bytes": _peak(), "built_bytes": built, **(found or {})}),
              flush=True)


def main():
    workload, system, variant, dtype = sys.argv[1:]
    answer(SYSTEMS[system](workload_of(workload), variant, dtype))


if __name__ == "__main__":
    main()
