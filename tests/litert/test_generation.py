"""Generation with LiteRT files: the tokens of the live model, and the graph's numbers from NumPy's processors."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

import tfzoo
import tfzoo.litert
from tests.export.test_writing import make
from tests.experiments.conftest import call  # noqa: F401
from tests.models.test_models import SMALL
from tfzoo.checkpoints import Loaded
from tfzoo.errors import ConfigError, DataError
from tfzoo.export.litert import export_litert
from tfzoo.generation import Options
from tfzoo.generation import processors as graph
from tfzoo.generation import sampling
from tfzoo.layers import initial_weights
from tfzoo.litert import processors
from tfzoo.litert.beam import _top
from tfzoo.text import load_tokenizer

TEXTS = ["ab", "hello you", "x" * 10, "q"]
FAMILIES = {"gpt2_tiny": "causal_lm", "llama_tiny": "causal_lm", "mistral_tiny": "completion", "t5_tiny": "seq2seq",
            "transformer_tiny": "seq2seq"}


def shipped(name, folder, **options):
    loaded = make(name, FAMILIES[name])
    export_litert(loaded, folder, **{"lengths": [8, 16], "batches": [1, 3], "cache_length": 40, **options})
    return loaded, tfzoo.load(folder)


@pytest.mark.parametrize("name", [name if name == "gpt2_tiny" else pytest.param(name, marks=pytest.mark.slow)
                                  for name in FAMILIES])
def test_the_tokens_of_every_family_are_the_live_model_s(name, tmp_path):
    (loaded, file), letters = shipped(name, tmp_path), set()
    for options in ({"temperature": 0}, {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 7},
                    {"temperature": 0, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "log_probabilities": True},
                    {"temperature": 1.0, "num_return_sequences": 2, "encoder_repetition_penalty": 1.2},
                    {"temperature": 0, "stop": ["a"], "min_new_tokens": 3},
                    {"num_beams": 3, "temperature": 0, "num_return_sequences": 2, "length_penalty": 0.6},
                    {"num_beams": 3, "temperature": 0, "early_stopping": True, "no_repeat_ngram_size": 2,
                     "stop": ["a"]},
                    {"num_beams": 3, "num_beam_groups": 3, "diversity_penalty": 0.7, "temperature": 0,
                     "early_stopping": "never", "num_return_sequences": 3},
                    {"num_beams": 2, "temperature": 0.9, "top_k": 30, "seed": 5, "repetition_penalty": 1.2}):
        live, found = (each.generate(TEXTS, max_new_tokens=14, **options) for each in (loaded, file))
        for one, other in zip(live, found, strict=True):
            scores = one.pop("log_probabilities", [0]), other.pop("log_probabilities", [0])
            np.testing.assert_allclose(one.pop("score", 0), other.pop("score", 0), atol=1e-4)
            assert one == other, options
            np.testing.assert_allclose(*scores, atol=1e-4)
        letters.update(*(row["text"] for row in live))
    assert len(letters) > 20


def test_a_file_streams_and_says_what_it_cannot_do(tmp_path, call):  # noqa: F811
    loaded, file = shipped("gpt2_tiny", tmp_path / "file", lengths=[8], batches=[2])
    whole = file.generate(["ab"], max_new_tokens=9, temperature=0)[0]["text"]
    code, out, err = call("generate", f"--init={tmp_path / 'file'}", "--prompt=ab", "--max_new_tokens=9",
                          "--temperature=0")
    assert code == 0 and "ab" + whole in out and "Traceback" not in err
    long = file.generate(["x" * 30], max_new_tokens=4, temperature=0)[0]["text"]
    assert file._writer[1].cut == 1 and long == file.generate(["x" * 7], max_new_tokens=4, temperature=0)[0]["text"]
    many = file.generate(TEXTS + TEXTS, max_new_tokens=4, temperature=1, seed=3)
    live = loaded.generate([text[-7:] for text in TEXTS + TEXTS], max_new_tokens=4, temperature=1, seed=3)
    assert [row["text"] for row in many] == [row["text"] for row in live]
    for options, says in (({"num_beams": 3}, "--num_beams=3 exceeds the largest exported batch, 2"),
                          ({"prompt_lookup_num_tokens": 2}, "is not available for LiteRT files"),
                          ({"draft": loaded}, "--draft and --xla are not available"),
                          ({"num_return_sequences": 3}, "exceeds the largest exported batch, 2"),
                          ({"max_new_tokens": 33}, "leaves no room for a prompt: the file was exported with "
                                                   "--cache_length=40 and prompts of at least 8 tokens")):
        with pytest.raises(ConfigError, match=says):
            file.generate(["ab"], **options)
    generator = file.generator(Options(max_new_tokens=3, temperature=0))
    for prompts, says in (([], "there is no prompt"), ([[]], "the prompt is empty"), ([[260]], "from 0 to 259"),
                          ([[-1]], "from 0 to 259")):
        with pytest.raises(ConfigError, match=says):
            generator.generate(prompts)
    with pytest.raises(ConfigError, match="generates text and has no logits for whole texts"):
        file.model({"token_ids": np.ones((1, 4), np.int32)})


@pytest.mark.parametrize("name", ["gpt2_tiny", pytest.param("mistral_tiny", marks=pytest.mark.slow),
                                  pytest.param("t5_tiny", marks=pytest.mark.slow)])
def test_without_tensorflow_the_texts_are_the_same(name, tmp_path):
    loaded, _ = shipped(name, tmp_path)
    file = tfzoo.litert.load(tmp_path)
    texts = [text[-7:] for text in TEXTS]
    for options in ({"temperature": 0}, {"top_k": 20, "seed": 7, "log_probabilities": True},
                    {"temperature": 1.0, "num_return_sequences": 2}):
        live, found = (each.generate(texts, max_new_tokens=9, **options) for each in (loaded, file))
        for one, other in zip(live, found, strict=True):
            scores = one.pop("log_probabilities", [0]), other.pop("log_probabilities", [0])
            assert one == other, options
            np.testing.assert_allclose(*scores, atol=1e-4)
    assert file.cut == 0 and file.generate([]) == [] and len(file.generate(["x" * 99], max_new_tokens=2)) == 1
    assert file.cut == 1 and len(file.generate(["a"])[0]["text"]) > 3
    for options, says in (({"beams": 2}, "the option 'beams' is unknown"), ({"constraint": 1}, "is unknown"),
                          ({"top_p": 2}, "--top_p must be above 0"),
                          ({"num_beams": 4}, "exceeds the largest exported batch")):
        with pytest.raises(ConfigError, match=says):
            file.generate(["a"], **options)


def test_a_broken_model_is_reported(tmp_path):
    loaded = make("gpt2_tiny", "causal_lm")
    loaded.body.norm.gamma.assign(np.full(24, np.nan, np.float32))
    export_litert(loaded, tmp_path, lengths=[8], cache_length=20)
    with pytest.raises(DataError, match="outputs are NaN"):
        tfzoo.load(tmp_path).generator(Options(max_new_tokens=3)).generate([[5]])


def test_exports_that_leave_no_room_are_refused(tmp_path):
    loaded = make("gpt2_tiny", "causal_lm")
    for options, says in (({"cache_length": 61}, "--cache_length=61 must be from 2 to the model's 60 positions"),
                          ({"cache_length": 1}, "--cache_length=1 must be from 2"),
                          ({"cache_length": 16, "lengths": [16]}, "leaves no room for an answer in --cache_length=16")):
        with pytest.raises(ConfigError, match=says):
            export_litert(loaded, tmp_path / "file", **options)


def test_defaults_follow_the_options_of_a_call(tmp_path):
    loaded = make("t5_tiny", "seq2seq", num_beams=3, length_penalty=2.0)
    with pytest.raises(ConfigError, match="generates with 3 beams"):
        export_litert(loaded, tmp_path / "few", lengths=[16], batches=[1])
    export_litert(loaded, tmp_path / "file", lengths=[16], cache_length=12)
    file, lean = tfzoo.load(tmp_path / "file"), tfzoo.litert.load(tmp_path / "file")
    assert lean.config["litert"]["batches"] == [1, 3]
    for options in ({}, {"num_beams": 1}, {"num_beams": 2}, {"top_k": 5, "num_beams": 1}):
        live = loaded.generate(TEXTS[:2], max_new_tokens=11, **options)
        for found in (file.generate(TEXTS[:2], **options), lean.generate(TEXTS[:2], **options)):
            assert [row["text"] for row in found] == [row["text"] for row in live], options
    decoder = make("gpt2_tiny", "causal_lm")
    export_litert(decoder, tmp_path / "decoder", lengths=[8], cache_length=40, batches=[2])
    file, lean = tfzoo.load(tmp_path / "decoder"), tfzoo.litert.load(tmp_path / "decoder")
    for options in ({}, {"num_beams": 2}):
        one, other = file.generate(["ab"], **options)[0], lean.generate(["ab"], **options)[0]
        assert one["text"] == other["text"] and one["tokens"] <= 20


def test_of_equal_scores_the_first_is_chosen():
    values = np.random.default_rng(0).integers(0, 3, (20, 50)).astype(np.float32)
    for found, wanted in zip(_top(values, 4), tf.math.top_k(values, 4)):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_a_tied_table_is_stored_once_in_int8(tmp_path):
    with initial_weights(0):
        model = tfzoo.build("gpt2_tiny", task="causal_lm", **{**SMALL, "vocab_size": 20000})
    loaded = Loaded(model, load_tokenizer("bytes"), {"model": "gpt2_tiny", "task": "causal_lm", "labels": None,
                                                     "settings": model.task.settings, "max_length": 20})
    export_litert(loaded, tmp_path, lengths=[8], precision="int8")
    model = schema.ModelT.InitFromPackedBuf((tmp_path / "model.tflite").read_bytes(), 0)
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
    assert sizes.count(20000 * 24) == 1


def random_options(rng):
    """Return Options of which each has an effect with a probability of a third."""
    def some(**values):
        return {name: value for name, value in values.items() if rng.random() < 1 / 3}

    fixed = {"temperature": float(rng.choice([0.3, 1.0, 2.0])), "eos_token_id": (1,), "max_new_tokens": 8}
    return Options(**fixed, **some(
        top_k=int(rng.integers(1, 30)), top_p=float(rng.uniform(0.1, 1)), min_p=float(rng.uniform(0, 0.3)),
        typical_p=float(rng.uniform(0.1, 0.99)), epsilon_cutoff=float(rng.uniform(0, 0.1)),
        eta_cutoff=float(rng.uniform(0, 0.1)), repetition_penalty=float(rng.uniform(0.5, 2)),
        encoder_repetition_penalty=float(rng.uniform(0.5, 2)), presence_penalty=float(rng.uniform(-1, 1)),
        frequency_penalty=float(rng.uniform(-1, 1)), no_repeat_ngram_size=int(rng.integers(1, 4)),
        bad_words_ids=((3,), (4, 5), (6, 7, 8)), min_new_tokens=int(rng.integers(0, 8)), suppress_tokens=(2, 9),
        begin_suppress_tokens=(10, 11), forced_bos_token_id=12, forced_eos_token_id=1))


@pytest.mark.slow
def test_the_processors_equal_the_graph_s_over_200_random_settings():
    rng, width, changed = np.random.default_rng(0), 40, set()
    for _ in range(200):
        options, made = random_options(rng), int(rng.integers(0, 8))
        first, column = 6, 6 + made
        ids = rng.integers(0, 12, (3, 14)).astype(np.int32)
        real = np.arange(14)[None] < np.full((3, 1), column)
        for row, length in enumerate((6, 1, 3)):
            real[row, :first - length] = False
        source = rng.integers(0, 40, (3, 5)).astype(np.int32), rng.random((3, 5)) < 0.7
        source = source if rng.random() < 0.5 else None
        logits = (3 * rng.standard_normal((3, width))).astype(np.float32)
        history = graph.History(*map(tf.constant, (ids, real, column, first)), *(source or ()))
        wanted = graph.process(tf.constant(logits), history, options)
        found = processors.process(logits, ids, real, column, first, options, source)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        changed.update(field.name for field in dataclasses.fields(options)
                       if getattr(options, field.name) != field.default)
        keep = int(rng.integers(1, 3))
        wide, narrow = sampling.warp(wanted, options, keep).numpy(), processors.warp(found, options, keep)
        # A token at the edge of a set may fall on either side, if the sums of probabilities differ in the last bit.
        assert ((wide > -np.inf) == (narrow > -np.inf)).mean() > 0.99
        both = (wide > -np.inf) & (narrow > -np.inf)
        np.testing.assert_allclose(narrow[both], wide[both], rtol=1e-5, atol=1e-5)
        seeds = rng.integers(0, 2 ** 63, 3).astype(np.uint64)
        keys = sampling.row_keys(tf.constant(seeds.view(np.int64)), 2)
        np.testing.assert_array_equal(processors.row_keys(seeds, 2), keys)
        np.testing.assert_allclose(processors.gumbel(np.asarray(keys), made, width), sampling.gumbel(keys, made, width),
                                   rtol=1e-5, atol=1e-6)
    assert len(changed) >= 17
