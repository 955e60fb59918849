"""Residuals at fixed points are those of the equation, and weigh what held-out fields say."""

import pytest
import torch

from inference.fields.field_cases import operator_model
from latens.distributions import NoiseStream
from latens.errors import UnsupportedError
from latens.inference.fields import FixedResidual, held_out_weight
from latens.inference.fields.equation import MeanCoefficient
from latens.nets.multionet import MultiONet
from latens.objectives.equations import DarcyEquation
from models.test_igno import made, pairs, strengthened


def models():
    """Every equation, both forms, and two values."""
    strong = operator_model()
    strong.equation = DarcyEquation(form="strong", count=5, radius=0.12)
    return {
        "weak": operator_model(),
        "strong": strong,
        "eit": strengthened(made("eit")).double(),
        "burgers": strengthened(made("burgers")).double(),
        "two-valued": strengthened(made("darcy", values="two-valued")).double(),
    }


@pytest.mark.parametrize("name", models())
def test_fixed_residuals_are_those_of_the_equation(name, monkeypatch):
    model = models()[name]
    w = NoiseStream(1).normal((6, model.dim), torch.float64)
    fixed = FixedResidual(model, 7)
    coefficient = MeanCoefficient(model, model.coefficient(w))
    expected = model.equation.residual(coefficient, model.solution(w), fixed.rows)
    assert expected.abs().max() > 1e-3

    def refuse(*_):
        raise AssertionError("the trunk is evaluated again")

    monkeypatch.setattr(MultiONet, "jet", refuse)
    monkeypatch.setattr(MultiONet, "basis", refuse)
    leaf = w.clone().requires_grad_()
    found = fixed(leaf)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    (slope,) = torch.autograd.grad(found.square().sum(), leaf)
    assert (slope.abs().sum(1) > 0).all()


def test_weight_makes_residuals_of_held_out_fields_usual():
    """With this ρ, −ρ mean R² is −½ Σ (R/s)²: of n residuals of size s on average −n/2."""
    model, a = operator_model(), pairs("darcy", 70)[0].double()
    rho = held_out_weight(model, a)
    r = FixedResidual(model)(model.encoder(a).mean).detach()
    assert float((rho * r.square().mean(1)).mean()) == pytest.approx(r.shape[1] / 2)


def test_two_values_have_no_derivatives():
    model = models()["two-valued"]
    model.equation = DarcyEquation(form="strong", count=5, radius=0.12)
    with pytest.raises(UnsupportedError, match="weak"):
        FixedResidual(model)(torch.zeros(1, model.dim, dtype=torch.float64))
