"""L1 and L2 penalties: gradients by hand, once per update however it is split, and settings that are refused."""
import numpy as np
import pytest

from tests.tasks.test_kin import batch_of, make, open_rows
from tfzoo.errors import ConfigError
from tfzoo.training.optimizer import WarmUp, make_optimizer
from tfzoo.training.settings import Settings
from tfzoo.training.trainer import Trainer

RUN = {"task": "regression", "model": "bert_tiny", "tokenizer": "bytes", "data": "x", "output_dir": "y"}


def momenta(tmp_path, parts=1, **penalties):
    """Return (reported loss, dict of path -> gradient of the first update)."""
    model = make("regression", dropout=0.2, num_layers=1)
    given = Settings.resolve({**RUN, **penalties}).penalties()
    optimizer = make_optimizer("adamw", WarmUp(1e-3, 20, 0), model.trainable_variables)
    trainer = Trainer(model, model.task, optimizer, seed=3, clip_norm=0, microbatches=parts, penalties=given)
    weights = {variable.path: variable.numpy() for variable in model.trainable_variables}
    loss = float(trainer.train_step(batch_of(model, open_rows(tmp_path, "regression")))[0]["loss"])
    found = dict(zip(weights, (10 * value.numpy() for value in optimizer._momentums)))
    return loss, found, weights


@pytest.mark.slow
def test_gradients_are_those_by_hand_and_the_loss_is_reported_without_them(tmp_path):
    loss, plain, weights = momenta(tmp_path)
    for parts in (1, 2):
        other, found, _ = momenta(tmp_path, parts, l1=("head/=0.5", "kernel$=0.25"), l2=("^embeddings/token=2",))
        assert other == pytest.approx(loss, rel=1e-6)
        for path, weight in weights.items():
            l1 = 0.5 * ("head/" in path) + 0.25 * path.endswith("kernel")
            expected = plain[path] + l1 * np.sign(weight) + 2 * 2 * weight * path.startswith("embeddings/token")
            assert found[path] == pytest.approx(expected, rel=1e-4, abs=1e-4), path


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--l2=nothing=0.1 matches no trained weight; their paths are like head"):
        momenta(tmp_path, l2=("nothing=0.1",))


@pytest.mark.parametrize("given", ["head", "=1", "head=-1", "head=x", "head=inf", "(=1", "head=nan"])
def test_malformed_penalties_are_refused(given):
    with pytest.raises(ConfigError, match="--l1=.* must have the form PATTERN=COEFFICIENT"):
        Settings.resolve({**RUN, "l1": (given,)})
    assert Settings.resolve({**RUN, "l2": ("a=b=1e-3",)}).penalties()["l2"][0][0].pattern == "a=b"
