"""Test parameter counts against published ones, the contract of a body, cached decoding, bad settings and origins."""
import functools
import json
import pathlib
import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import check_body
from tfzoo.errors import ConfigError
from tfzoo.models import build_body, count_parameters, family_of, list_models

# written by golden/make_counts.py
COUNTS = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "counts.json").read_text())["counts"]

SMALL = {"vocab_size": 53, "num_layers": 2, "hidden_dim": 24, "num_heads": 4, "ffn_dim": 40, "max_length": 20}

# One family for each special feature: shared block, positions that skip padding, rotary positions, window, biases.
SORTS = ["bert_tiny", "gpt2_tiny", "roberta_tiny", "albert_tiny_v1", "electra_tiny", "llama_tiny", "mistral_tiny",
         "qwen2_tiny"]
OWN = {"mistral_tiny": {"window": 5}, "electra_tiny": {"embedding_dim": 10}, "albert_tiny_v1": {"embedding_dim": 10}}


def small(name, **others):
    given = {**SMALL, **OWN.get(name, {}), **others}
    if name.startswith("t5"):
        del given["max_length"]  # relative positions have no max_length
    return build_body(name, **given)


@pytest.fixture
def token_ids():
    return np.random.default_rng(0).integers(0, 53, (3, 16)).astype(np.int32)


@pytest.mark.parametrize("name, overrides, count", [
    ("bert_base", {}, 109_482_240), ("bert_base", {"vocab_size": 28996}, 108_310_272), ("bert_large", {}, 335_141_888),
    ("bert_l2_h128", {}, 4_385_920), ("bert_mini", {}, 11_170_560), ("bert_small", {}, 28_763_648),
    ("bert_medium", {}, 41_373_184), ("gpt2_124m", {}, 124_439_808), ("gpt2_355m", {}, 354_823_168),
    ("gpt2_774m", {}, 774_030_080), ("gpt2_1558m", {}, 1_557_611_200),
    ("roberta_base", {}, 124_645_632), ("roberta_large", {}, 355_359_744), ("distilbert_base", {}, 66_362_880),
    ("distilbert_base", {"vocab_size": 28996}, 65_190_912), ("albert_base_v1", {}, 11_683_584),
    ("albert_large_v2", {}, 17_683_968), ("albert_xlarge_v2", {}, 58_724_864), ("albert_xxlarge_v1", {}, 222_595_584),
    # parameter counts of transformers' models with these sizes
    ("electra_small", {}, 13_483_008), ("electra_base", {}, 108_891_648), ("electra_large", {}, 334_092_288),
    ("electra_base_generator", {}, 33_511_168), ("electra_large_generator", {}, 50_999_552),
    ("gpt_117m", {}, 116_534_784),
    ("t5_small", {}, 60_506_624), ("t5_base", {}, 222_903_552), ("t5_large", {}, 737_668_096),
    ("t5_3b", {}, 2_851_598_336), ("t5_11b", {}, 11_307_321_344),
    # published with an untied head, whose table is subtracted
    ("t5_1.1_small", {}, 76_961_152 - 32128 * 512), ("t5_1.1_base", {}, 247_577_856 - 32128 * 768),
    ("t5_1.1_large", {}, 783_150_080 - 32128 * 1024), ("t5_1.1_xl", {}, 2_849_757_184 - 32128 * 2048),
    ("flan_t5_xxl", {}, 11_135_332_352 - 32128 * 4096),
    ("llama2_7b", {}, 6_738_415_616 - 32000 * 4096), ("llama2_13b", {}, 13_015_864_320 - 32000 * 5120),
    ("llama2_70b", {}, 68_976_648_192 - 32000 * 8192), ("llama3_8b", {}, 8_030_261_248 - 128256 * 4096),
    ("llama3.1_70b", {}, 70_553_706_496 - 128256 * 8192), ("llama3.1_405b", {}, 405_853_388_800 - 128256 * 16384),
    ("llama3.2_1b", {}, 1_235_814_400), ("llama3.2_3b", {}, 3_212_749_824), ("smollm_135m", {}, 134_515_008),
    ("smollm2_360m", {}, 361_821_120), ("smollm2_1.7b", {}, 1_711_376_384),
    ("mistral_7b_v0.1", {}, 7_241_732_096 - 32000 * 4096), ("mistral_7b_v0.3", {}, 7_248_023_552 - 32768 * 4096),
    ("qwen2_0.5b", {}, 494_032_768), ("qwen2_1.5b", {}, 1_543_714_304), ("qwen2_7b", {}, 7_615_616_512 - 152064 * 3584),
    ("qwen2.5_3b", {}, 3_085_938_688), ("qwen2.5_14b", {}, 14_770_033_664 - 152064 * 5120),
    ("qwen2.5_32b", {}, 32_763_876_352 - 152064 * 5120), ("qwen2.5_72b", {}, 72_706_203_648 - 152064 * 8192)])
def test_parameter_counts_are_the_published_ones(name, overrides, count):
    assert count_parameters(name, **overrides) == count


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_those_of_transformers(name):
    assert count_parameters(name) == COUNTS[name]


@pytest.mark.parametrize("name, millions", [
    # Brown et al. 2020, table 2.1; Vaswani et al. 2017, table 3, except the base model: 63 here, 65 in the table
    ("gpt3_125m", 125), ("gpt3_350m", 350), ("gpt3_760m", 760), ("gpt3_1.3b", 1_300), ("gpt3_2.7b", 2_700),
    ("gpt3_6.7b", 6_700), ("gpt3_13b", 13_000), ("gpt3_175b", 175_000), ("transformer_big", 213)])
def test_parameter_counts_are_near_those_of_papers_that_round_them(name, millions):
    assert count_parameters(name) == pytest.approx(millions * 1e6, rel=0.02)


def test_every_size_is_counted_somewhere():
    assert {name for name in list_models() if not name.startswith(("gpt3_", "transformer_"))} == set(COUNTS)


def test_what_was_only_counted_never_takes_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert count_parameters("llama3.1_405b") > 4e11
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x)])  # makes Keras allocate deferred variables
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 500_000  # kB


def test_google_s_24_sizes_are_there():
    assert sum(name.startswith("bert_l") and "_h" in name for name in list_models()) == 24


@pytest.mark.parametrize("name", [*SORTS, "t5_tiny", "transformer_tiny"])
def test_a_body_keeps_the_contract(name, tmp_path):
    check_body(functools.partial(small, name), tmp_path)


@pytest.mark.parametrize("name, jit", [("gpt2_tiny", False), ("mistral_tiny", False),
                                       pytest.param("gpt2_tiny", True, marks=pytest.mark.slow),
                                       pytest.param("qwen2_tiny", True, marks=pytest.mark.slow)])
def test_cached_decoding_equals_the_full_pass(token_ids, name, jit):
    body = small(name)
    full = body({"token_ids": token_ids})["sequence"]
    start = tf.function(lambda ids: body.start({"token_ids": ids}, 16), jit_compile=jit)
    step = tf.function(body.step, jit_compile=jit)
    outputs, state = start(token_ids[:, :5])
    parts = [outputs["sequence"]]
    for first, last in ((5, 6), (6, 9), *((column, column + 1) for column in range(9, 16))):
        outputs, state = step(token_ids[:, first:last], state)
        parts.append(outputs["sequence"])
    assert np.abs(full[:, 4:] - np.concatenate(parts, axis=1)).max() < 1e-5


@pytest.mark.parametrize("name, dropped", [("bert_tiny", False), ("roberta_tiny", True), ("electra_tiny", True)])
def test_a_classifier_s_layer_has_dropout_before_it_where_the_reference_has(name, dropped, token_ids):
    body = small(name, pooler=True, dropout=0.5)
    outputs = body({"token_ids": token_ids}, training=True)
    plain = body.pooler_activation(body.pooler(outputs["sequence"][:, 0]))
    assert np.allclose(plain, outputs["pooled"], atol=1e-6) != dropped


@pytest.mark.parametrize("name, overrides, says", [
    ("bert_bas", {}, "bert_base"),
    ("bert_tiny", {"layers": 2}, "num_layers"), ("bert_tiny", {"num_heads": 3}, "divisible"),
    ("bert_tiny", {"vocab_size": -1}, "1 or more"), ("bert_tiny", {"dropout": "x"}, "float")])
def test_wrong_settings_are_refused_in_one_line(name, overrides, says):
    with pytest.raises(ConfigError) as error:
        build_body(name, **overrides)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_original_weights_are_listed_of_the_sizes_that_were_published_alone():
    tiny = {name: family_of(name).origin_of(name)[0] for name in list_models() if "tiny" in name}
    # Turc et al. 2019 call BERT with 2 layers of width 128 "tiny"; only tfzoo has tiny models of other families.
    assert {name for name, source in tiny.items() if source} == {"bert_tiny"} and len(tiny) > 10
    assert family_of("bert_tiny").origin_of("bert_tiny") == family_of("bert_l2_h128").origin_of("bert_l2_h128")
    assert family_of("albert_base_v2").origin_of("albert_base_v2") == ("hf:albert/albert-*", "Apache-2.0")
