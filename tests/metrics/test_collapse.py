"""The collapse diagnosis on latents whose state is known."""

import math

import pytest
import torch

from latens.errors import ShapeError
from latens.metrics import CollapseThresholds, active_units, diagnose_collapse, kl_per_unit
from latens.metrics.collapse import free_nats, with_part


def _means(active: int, units: int = 32) -> torch.Tensor:
    mu = torch.randn(500, units, generator=torch.Generator().manual_seed(0))
    return mu * (torch.arange(units) < active)


def test_active_units_are_counted():
    assert active_units(_means(7)) == 7
    assert active_units(0.05 * _means(7)) == 0
    assert active_units(_means(7) + 100) == 7  # a constant offset is not activity


def test_kl_against_torch():
    generator = torch.Generator().manual_seed(1)
    loc = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    scale = torch.rand(6, 4, generator=generator, dtype=torch.float64) + 0.1
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(loc, scale), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_per_unit(loc, scale), expected)


def test_a_healthy_model():
    result = diagnose_collapse(_means(20), kl_raw=40.0, ablation_ratio=8.0)
    assert result.verdict == "healthy"
    assert result.active_units == 20
    assert result.reasons == ()


@pytest.mark.parametrize(
    ("active", "kl", "ratio", "phrase"),
    [
        (20, 1.2, 8.0, "KL 1.2 nats"),
        (20, 40.0, 1.0, "z = 0"),
        (0, 40.0, 8.0, "0 of 32 units"),
        (20, math.nan, 8.0, "nan"),
    ],
)
def test_one_symptom_is_enough(active: int, kl: float, ratio: float, phrase: str):
    result = diagnose_collapse(_means(active), kl, ratio)
    assert result.verdict == "collapsed"
    assert phrase in " ".join(result.reasons)


def test_between_the_limits_the_model_is_weak():
    result = diagnose_collapse(_means(5), kl_raw=6.0, ablation_ratio=1.5)
    assert result.verdict == "weak"
    assert len(result.reasons) == 3


def test_few_latents_and_own_thresholds():
    assert diagnose_collapse(_means(4, 4), 12.0, 5.0).verdict == "healthy"
    strict = CollapseThresholds(kl_collapsed=20.0)
    assert diagnose_collapse(_means(4, 4), 12.0, 5.0, strict).verdict == "collapsed"


def test_too_few_images_are_judged_by_information_and_ablation_alone():
    result = diagnose_collapse(None, 40.0, 1.0)
    assert result.verdict == "collapsed"
    assert len(result.reasons) == 1
    assert result.active_units is result.mean_variance is result.units is None
    assert diagnose_collapse(None, 40.0, 8.0).verdict == "healthy"


def test_nats_that_were_given_away_tell_nothing():
    """A KL at the floor of its free bits is what an encoder has that tells nothing."""
    per_unit = torch.full((128,), 0.1)
    assert free_nats(per_unit, 0.0) == 0
    assert free_nats(per_unit, 0.1) == pytest.approx(12.8)
    assert free_nats(torch.tensor([5.0, 0.05, 0.1]), 0.1) == pytest.approx(0.25)
    loc = 0.44 * _means(128, 128)
    assert diagnose_collapse(loc, 12.8, 2.1).verdict == "healthy"
    found = diagnose_collapse(loc, 12.8, 2.1, kl_free=12.8)
    assert found.verdict == "collapsed"
    assert found.reasons == ("KL 12.8 nats, 12.8 of them free bits",)
    assert (found.kl_raw, found.kl_free) == (12.8, 12.8)
    assert diagnose_collapse(loc, 17.8, 2.1, kl_free=12.8).verdict == "weak"
    assert diagnose_collapse(loc, 22.8, 2.1, kl_free=12.8).verdict == "healthy"


def test_a_part_is_judged_with_the_whole():
    whole = diagnose_collapse(_means(20), 40.0, 8.0)
    dead = diagnose_collapse(_means(0), 0.1, 1.0, ablation="that of another subject")
    both = with_part(whole, dead, "rest")
    assert both.verdict == "collapsed"
    assert both.reasons[0] == "rest: 0 of 32 units active"
    assert both.reasons[-1].startswith("rest: MSE with that of another subject only 1 ×")
    assert both.kl_raw == 40
    assert with_part(dead, whole, "rest").verdict == "collapsed"
    assert with_part(whole, diagnose_collapse(_means(5), 6.0, None), "rest").verdict == "weak"
    assert with_part(whole, whole, "rest").verdict == "healthy"


def test_without_an_ablation_the_others_judge():
    found = diagnose_collapse(_means(20), 40.0, None)
    assert (found.verdict, found.ablation_ratio) == ("healthy", None)
    assert diagnose_collapse(_means(20), 1.0, None).verdict == "collapsed"


def test_shapes_are_checked():
    with pytest.raises(ShapeError, match="n ≥ 2"):
        active_units(torch.rand(1, 4))
    with pytest.raises(ShapeError, match="scale"):
        kl_per_unit(torch.rand(2, 3), torch.rand(2, 4))
