"""Test the Transformer against a NumPy forward pass from the paper, cached decoding, saving and parameter counts."""
import math

import keras
import numpy as np
import pytest

from tfzoo.layers.embeddings import project
from tfzoo.models import build_body, count_parameters

SMALL = {"vocab_size": 41, "num_layers": 2, "hidden_dim": 24, "num_heads": 3, "ffn_dim": 50, "max_length": 30}


@pytest.fixture(scope="module")
def body():
    body = build_body("transformer_tiny", **SMALL)
    rng = np.random.default_rng(0)
    for variable in body.trainable_variables:
        variable.assign(variable + 0.2 * rng.standard_normal(variable.shape).astype(np.float32))
    return body


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    mask = np.ones((2, 9), np.int32)
    mask[1, 6:] = 0
    return {"encoder_token_ids": rng.integers(1, 41, (2, 9)).astype(np.int32), "encoder_padding_mask": mask,
            "decoder_token_ids": rng.integers(1, 41, (2, 7)).astype(np.int32)}


def paper(weights, inputs):
    """Return (encoded, decoded, logits), computed in float64 as in Vaswani et al. 2017, sections 3.1 to 3.5."""
    width, heads = SMALL["hidden_dim"], SMALL["num_heads"]

    def linear(x, path):
        return x @ weights[f"{path}/kernel"] + weights[f"{path}/bias"]

    def norm(x, path):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-6) * weights[f"{path}/gamma"] + weights[f"{path}/beta"]

    def attention(query, source, allowed, path):
        result = np.zeros_like(query)
        q, k, v = (linear(x, f"{path}/{name}") for x, name in ((query, "query"), (source, "key"), (source, "value")))
        size = width // heads
        for row in range(len(query)):
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                scores = q[row, :, part] @ k[row, :, part].T / math.sqrt(size)
                scores = np.where(allowed[row], scores, -np.inf)
                scores = np.exp(scores - scores.max(-1, keepdims=True))
                result[row, :, part] = scores / scores.sum(-1, keepdims=True) @ v[row, :, part]
        return linear(result, f"{path}/output")

    def embed(ids):
        table = np.zeros((ids.shape[1], width))
        for position in range(ids.shape[1]):
            for number in range(0, width, 2):
                angle = position / 10000 ** (number / width)
                table[position, number], table[position, number + 1] = math.sin(angle), math.cos(angle)
        return weights["embeddings/token"][ids] * math.sqrt(width) + table

    def feed(x, path):
        return linear(np.maximum(linear(x, f"{path}/up"), 0), f"{path}/down")

    source, target = inputs["encoder_token_ids"], inputs["decoder_token_ids"]
    seen = inputs["encoder_padding_mask"].astype(bool)
    x = embed(source)
    for number in range(SMALL["num_layers"]):
        block = f"encoder_block_{number:02d}"
        allowed = np.repeat(seen[:, None], source.shape[1], 1)
        x = norm(x + attention(x, x, allowed, f"{block}/attention"), f"{block}/attention_norm")
        x = norm(x + feed(x, f"{block}/feed_forward"), f"{block}/feed_forward_norm")
    y, length = embed(target), target.shape[1]
    for number in range(SMALL["num_layers"]):
        block = f"decoder_block_{number:02d}"
        causal = np.repeat(np.tril(np.ones((length, length), bool))[None], len(target), 0)
        y = norm(y + attention(y, y, causal, f"{block}/attention"), f"{block}/attention_norm")
        allowed = np.repeat(seen[:, None], length, 1)
        y = norm(y + attention(y, x, allowed, f"{block}/cross_attention"), f"{block}/cross_attention_norm")
        y = norm(y + feed(y, f"{block}/feed_forward"), f"{block}/feed_forward_norm")
    return x, y, y @ weights["embeddings/token"].T


def test_it_equals_the_paper_in_numpy(body, inputs):
    weights = {variable.path: variable.numpy().astype(np.float64) for variable in body.trainable_variables}
    encoded, decoded, logits = paper(weights, inputs)
    outputs = body(inputs)
    real = inputs["encoder_padding_mask"].astype(bool)
    assert np.abs(outputs["encoder_sequence"] - encoded)[real].max() < 1e-5
    assert np.abs(outputs["sequence"] - decoded).max() < 1e-5
    own = project(outputs["sequence"], body.embeddings.token)
    assert np.abs(own - logits).max() < 1e-5 * np.abs(logits).max()


def test_cached_decoding_equals_the_full_pass(body, inputs):
    full = body(inputs)["sequence"]
    token_ids = inputs["decoder_token_ids"]
    outputs, state = body.start({**inputs, "decoder_token_ids": token_ids[:, :3]}, 12)
    parts = [outputs["sequence"]]
    for first, last in ((3, 4), (4, 7)):
        outputs, state = body.step(token_ids[:, first:last], state)
        parts.append(outputs["sequence"])
    assert np.abs(full[:, 2:] - np.concatenate(parts, axis=1)).max() < 1e-5


def test_round_trip_and_bfloat16(body, inputs, tmp_path):
    body.save(tmp_path / "body.keras")
    again = keras.models.load_model(tmp_path / "body.keras")
    assert np.array_equal(again(inputs)["sequence"], body(inputs)["sequence"])
    half = build_body("transformer_tiny", dtype="mixed_bfloat16", norm_first=True, positions="learned", **SMALL)
    assert np.isfinite(np.asarray(half(inputs, training=True)["sequence"], np.float32)).all()


@pytest.mark.parametrize("name, overrides, count", [
    # torch.nn.Transformer of the same sizes without its two final norms (not in the paper), plus the token table
    ("transformer_base", {}, 44_138_496 + 37000 * 512), ("transformer_big", {}, 176_357_376 + 37000 * 1024),
    ("transformer_tiny", {}, 2 * (198_272 + 264_576) + 37000 * 128)])
def test_parameter_counts(name, overrides, count):
    assert count_parameters(name, **overrides) == count
