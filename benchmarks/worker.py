"""One system of a benchmark in a process of its own: builds, then makes as many steps as each line of stdin asks for.

Run by `benchmarks.train_step` as `python -m benchmarks.worker SYSTEM VARIANT DTYPE`; imports nothing but its own
system, so that PyTorch can have an environment of its own. Each answer is a JSON line: seconds of the steps asked for.
"""
import json
import os
import resource
import sys
import time

BATCH, LENGTH, VOCABULARY, LABELS = 32, 128, 30522, 2
RATE, DECAY, DROPOUT = 1e-4, 0.01, 0.1


def make_batch():
    import numpy as np
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(5, VOCABULARY, (BATCH, LENGTH)), rng.integers(0, LABELS, BATCH)
    return tokens.astype(np.int32), labels.astype(np.int32)


def tfzoo_steps(variant, dtype):
    import numpy as np
    import tfzoo
    from tfzoo.tasks import task_of
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.trainer import Trainer
    tokens, labels = make_batch()
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[dtype]
    names = [str(number) for number in range(LABELS)]
    model = tfzoo.build("bert_small", task="classification", labels=names, dtype=policy, dropout=DROPOUT)
    optimizer = make_optimizer("adamw", RATE, model.trainable_variables, DECAY)
    trainer = Trainer(model, task_of("classification", names), optimizer, clip_norm=0.0, xla=variant == "xla")
    batch = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "segment_ids": np.zeros_like(tokens),
             "labels": labels, "weights": np.ones(BATCH, np.float32)}

    def steps(count):
        for _ in range(count):
            norm = trainer.train_step(batch)[1]
        float(norm)

    return steps


def keras_nlp_steps(variant, dtype):
    import keras
    import keras_nlp
    import numpy as np
    import tensorflow as tf
    tokens, labels = make_batch()
    policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[dtype]
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=VOCABULARY, num_layers=4, num_heads=8, hidden_dim=512, intermediate_dim=2048,
        dropout=DROPOUT, max_sequence_length=512, dtype=policy)
    model = keras_nlp.models.BertTextClassifier(backbone, num_classes=LABELS, preprocessor=None, dropout=DROPOUT)
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "norm"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=variant == "xla")
    inputs = {"token_ids": tokens, "padding_mask": np.ones_like(tokens), "segment_ids": np.zeros_like(tokens)}
    data = tf.data.Dataset.from_tensors((inputs, labels)).cache().repeat()

    def steps(count):
        model.fit(data, steps_per_epoch=count, epochs=1, verbose=0)

    return steps


def pytorch_steps(variant, dtype):
    import torch
    from transformers import BertConfig, BertForSequenceClassification
    torch.manual_seed(0)
    tokens, labels = (torch.tensor(array, dtype=torch.long) for array in make_batch())
    model = BertForSequenceClassification(BertConfig(
        vocab_size=VOCABULARY, num_hidden_layers=4, num_attention_heads=8, hidden_size=512, intermediate_size=2048,
        hidden_dropout_prob=DROPOUT, attention_probs_dropout_prob=DROPOUT, num_labels=LABELS))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)

    def steps(count):
        for _ in range(count):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return steps


SYSTEMS = {"tfzoo": tfzoo_steps, "keras-nlp": keras_nlp_steps, "pytorch": pytorch_steps}


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    system, variant, dtype = sys.argv[1:]
    steps = SYSTEMS[system](variant, dtype)
    for line in sys.stdin:
        begin = time.perf_counter()
        steps(int(line))
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
