"""Worker process that pretrains a model with one system on real text (benchmarks.worker uses random tokens).

Run as `python -m benchmarks.pretrain_worker RECIPE SYSTEM VARIANT DTYPE`, where RECIPE is JSON from
benchmarks.pretrain. A worker imports only its own system. `python -m benchmarks.pretrain_worker RECIPE prepare` instead
writes the vocabulary and the text pieces that all workers read to the folder given in RECIPE.

For masked language modelling, tfzoo either packs texts into rows or splits them into pieces, which it pads to a few
bucket lengths. keras-nlp gets the same pieces as token ids, padded to the full length, because its own preprocessor
would truncate long texts and encode them again in each epoch. On bytes, all systems use rows of one fixed length:
tfzoo cuts them from its token stream, and the other systems cut them at random offsets.
"""
import json
import pathlib
import sys

from benchmarks.worker import POLICIES, answer, fit_seconds

RATE, DROPOUT, CLIP = 1e-3, 0.1, 1.0
MASKED = 0.15


def prepare(recipe):
    """Write vocab.txt and pieces.npz (tokens, lengths) to the recipe's folder, and cache the encoded corpus."""
    import numpy as np

    from tfzoo.data.corpus import open_corpus
    from tfzoo.data.encode import split_long
    from tfzoo.data.readers import TEXTS
    from tfzoo.data.source import open_source
    from tfzoo.text import learn_tokenizer
    source = open_source(recipe["data"], TEXTS)
    tokenizer = learn_tokenizer(f"learn:wordpiece:{recipe['vocab']}", source.passages())
    tokenizer.save(recipe["folder"])
    pieces = split_long(open_corpus(source, tokenizer), tokenizer.room(recipe["length"], 1))
    tokens = np.concatenate([pieces.tokens[begin:end] for begin, end in zip(pieces.starts, pieces.ends)])
    np.savez(pathlib.Path(recipe["folder"]) / "pieces.npz", tokens=tokens.astype(np.int32), lengths=pieces.lengths)
    print(json.dumps({"texts": len(source), "pieces": len(pieces), "tokens": len(tokens)}))


def vocabulary_of(recipe):
    """Return the path of the learned vocabulary: str."""
    return str(pathlib.Path(recipe["folder"]) / "vocab.txt")


def tfzoo_steps(recipe, variant, dtype):
    """Return a function that trains with tfzoo for a given number of steps.

    `variant` is `packed` or `bucketed` for masked language modelling, and `stream` for bytes. Append ` xla` to compile
    the step with XLA.
    """
    import keras

    import tfzoo
    from tfzoo.data.readers import TEXTS
    from tfzoo.data.source import open_source
    from tfzoo.tasks import task_of
    from tfzoo.text import load_tokenizer
    from tfzoo.training.optimizer import make_optimizer
    from tfzoo.training.trainer import Trainer
    keras.utils.set_random_seed(0)
    masked = recipe["task"] == "masked_lm"
    task = task_of(recipe["task"], **({"pack": variant.startswith("packed")} if masked else {}))
    source = open_source(recipe["data"], TEXTS, document="paragraph" if masked else "file")
    tokenizer = load_tokenizer(vocabulary_of(recipe) if masked else "bytes")
    data = task.features(source, tokenizer, batch_size=recipe["batch"], max_length=recipe["length"], training=True)
    model = tfzoo.build(
        "bert_tiny" if masked else "gpt2_tiny", task=recipe["task"], dtype=POLICIES[dtype], dropout=DROPOUT,
        vocab_size=tokenizer.vocab_size, num_layers=recipe["layers"], hidden_dim=recipe["width"],
        num_heads=recipe["heads"], ffn_dim=4 * recipe["width"], max_length=recipe["positions"])
    optimizer = make_optimizer("adamw", RATE, model.trainable_variables, recipe["decay"])
    trainer = Trainer(model, task, optimizer, clip_norm=CLIP, xla=variant.endswith(" xla"))
    if variant.startswith("bucketed"):  # trace each bucket length before measuring
        for step in {data.base.plan.batch(step)[0]: step for step in range(data.batches_per_epoch)}.values():
            trainer.train_step(data.batch(step))

    def steps(count):
        total = 0
        for _, _, norm, _, _, tokens, *_ in trainer.train(data, trainer.step + count):
            total += tokens
        float(norm)
        return {"tokens": int(total)}

    return steps


def keras_nlp_pieces(recipe, done):
    """Return (dataset of masked pieces, function that counts the real tokens in the next N steps)."""
    import keras_nlp
    import numpy as np
    import tensorflow as tf
    length, batch = recipe["length"], recipe["batch"]
    with np.load(pathlib.Path(recipe["folder"]) / "pieces.npz") as file:
        tokens, lengths = file["tokens"], file["lengths"]
    ragged = tf.RaggedTensor.from_row_lengths(tokens, lengths)
    order = np.concatenate([np.random.default_rng(0).permutation(len(lengths)) for _ in range(4)])
    tokenizer = keras_nlp.models.BertTokenizer(vocabulary=vocabulary_of(recipe), lowercase=True)
    pack = keras_nlp.layers.MultiSegmentPacker(length, tokenizer.start_token_id, tokenizer.end_token_id,
                                               pad_value=tokenizer.pad_token_id)
    mask = keras_nlp.layers.MaskedLMMaskGenerator(
        tokenizer.vocabulary_size(), MASKED, tokenizer.mask_token_id, max(1, round(MASKED * length)),
        unselectable_token_ids=tokenizer.special_token_ids)

    def prepare_rows(rows):
        token_ids, segment_ids = pack((tf.gather(ragged, rows),))
        masked = mask(token_ids)
        inputs = {"token_ids": tf.ensure_shape(masked["token_ids"], (batch, length)), "segment_ids": segment_ids,
                  "padding_mask": token_ids != tokenizer.pad_token_id, "mask_positions": masked["mask_positions"]}
        return inputs, masked["mask_ids"], masked["mask_weights"]

    # `fit` makes a new iterator each time; the offset `done` lets it continue where the previous one ended.
    places = tf.constant(order)
    data = tf.data.Dataset.range(2 ** 60).map(lambda number: places[(done + number) % len(order)])
    data = data.batch(batch, drop_remainder=True).map(prepare_rows, num_parallel_calls=2).prefetch(2)

    def tokens_of(count):
        first = int(done) + batch  # skip the unmeasured first step
        return int((lengths[order[np.arange(first, first + count * batch) % len(order)]] + 2).sum())

    return data, tokens_of


def keras_nlp_bytes(recipe, done):
    """Return (dataset of windows at random offsets, function that returns the number of tokens in N steps)."""
    import numpy as np
    import tensorflow as tf
    batch, length = recipe["batch"], recipe["length"]
    text = tf.constant(np.frombuffer((pathlib.Path(recipe["data"]) / "train.txt").read_bytes(), np.uint8), tf.int32)

    def window(number):
        begins = tf.random.uniform((batch, 1), maxval=len(text) - length, dtype=tf.int32)
        window = tf.gather(text, begins + tf.range(length + 1)[None])
        inputs = {"token_ids": window[:, :-1], "padding_mask": tf.ones((batch, length), tf.int32)}
        return inputs, window[:, 1:]

    return tf.data.Dataset.range(2 ** 60).map(window, num_parallel_calls=2).prefetch(2), \
        lambda count: count * batch * length


def keras_nlp_steps(recipe, variant, dtype):
    """Return a function that trains with keras-nlp; `variant` is `xla` or `no_xla`."""
    import keras
    import keras_nlp
    import tensorflow as tf
    keras.utils.set_random_seed(0)
    masked, done = recipe["task"] == "masked_lm", tf.Variable(0, dtype=tf.int64)
    data, tokens_of = (keras_nlp_pieces if masked else keras_nlp_bytes)(recipe, done)
    models = keras_nlp.models
    backbone = (models.BertBackbone if masked else models.GPT2Backbone)(
        vocabulary_size=recipe["vocab"], num_layers=recipe["layers"], num_heads=recipe["heads"],
        hidden_dim=recipe["width"], intermediate_dim=4 * recipe["width"], dropout=DROPOUT,
        max_sequence_length=recipe["positions"], dtype=POLICIES[dtype])
    model = (models.BertMaskedLM if masked else models.GPT2CausalLM)(backbone, preprocessor=None)
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=recipe["decay"], global_clipnorm=CLIP)
    optimizer.exclude_from_weight_decay(var_names=["bias", "norm"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=variant == "xla")

    def steps(count):
        found = {"seconds": fit_seconds(model, data, count), "tokens": tokens_of(count)}
        done.assign_add((1 + count) * recipe["batch"])
        return found

    return steps


def pytorch_steps(recipe, variant, dtype):
    """Return a function that trains with PyTorch, on bytes only; `variant` is `eager` or `compiled`."""
    import numpy as np
    import torch
    import transformers
    torch.manual_seed(0)
    batch, length = recipe["batch"], recipe["length"]
    text = np.frombuffer((pathlib.Path(recipe["data"]) / "train.txt").read_bytes(), np.uint8)
    text = torch.tensor(text, dtype=torch.long)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=recipe["vocab"], n_layer=recipe["layers"], n_head=recipe["heads"], n_embd=recipe["width"],
        n_positions=recipe["positions"], resid_pdrop=DROPOUT, embd_pdrop=DROPOUT, attn_pdrop=DROPOUT)).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=recipe["decay"])
    forward = torch.compile(model) if variant == "compiled" else model

    def steps(count):
        for _ in range(count):
            begins = torch.randint(len(text) - length, (batch,))
            window = torch.stack([text[begin:begin + length] for begin in begins])
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = forward(input_ids=window, labels=window).loss  # the model shifts the labels itself
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
        return {"tokens": count * batch * length}

    return steps


SYSTEMS = {"tfzoo": tfzoo_steps, "keras-nlp": keras_nlp_steps, "pytorch": pytorch_steps}


def main():
    recipe, system, *how = sys.argv[1:]
    if system == "prepare":
        prepare(json.loads(recipe))
    else:
        answer(SYSTEMS[system](json.loads(recipe), *how))


if __name__ == "__main__":
    main()
