"""Linear erasure: no linear probe reads what was erased, on fitting rows or on new ones."""

import pytest
import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.errors import ConfigError, ShapeError
from latens.nets.erasure import DECAY, ROWS_PER_LATENT, LinearErasure
from latens.objectives.covariance import covariance

K, T, ROWS = 12, 2, 4000


def rows(count: int, key: int) -> tuple[Tensor, Tensor]:
    """Latents of very different sizes that each know a little of two quantities."""
    stream, fixed = NoiseStream(1, key), NoiseStream(2, 0)
    t = stream.normal((count, T), torch.float64) @ torch.tensor([[1.0, 0.0], [0.6, 0.5]]).double()
    known = fixed.normal((T, K), torch.float64)
    sizes = torch.logspace(-2, 1, K, dtype=torch.float64)
    return 3 + (t @ known + stream.normal((count, K), torch.float64)) * sizes, t


def read(fit: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> float:
    """Largest held-out R² of least squares in standard units."""
    (r, t), (r_new, t_new) = fit, new
    unit = (r - r.mean(0)) / r.std(0)
    probe = torch.linalg.lstsq(unit, t - t.mean(0), driver="gelsd").solution
    error = t_new - t.mean(0) - (r_new - r.mean(0)) / r.std(0) @ probe
    return float((1 - error.square().mean(0) / t_new.var(0)).max())


def fitted() -> LinearErasure:
    erasure = LinearErasure(K, T)
    erasure.fit(*rows(ROWS, 0))
    return erasure


def test_a_probe_of_new_rows_reads_nothing():
    """A probe of 4000 rows may find k/n = .003 of what the fit of as many rows has left."""
    erasure, fit, new = fitted(), rows(ROWS, 1), rows(ROWS, 2)
    assert read(fit, new) > 0.8
    assert abs(read((erasure(fit[0]), fit[1]), (erasure(new[0]), new[1]))) < 0.02


def test_nothing_is_left_on_the_fitting_rows():
    r, t = rows(ROWS, 0)
    left = covariance(torch.cat([fitted()(r) / r.std(0), t], 1))[:K, K:]
    torch.testing.assert_close(left, torch.zeros(K, T).double(), atol=1e-11, rtol=0)


def test_the_map_is_the_projection_of_the_equation():
    r, t = rows(ROWS, 0)
    joint = covariance(torch.cat([r, t], 1))
    inside, across = joint[:K, :K], joint[:K, K:]
    probe = torch.linalg.solve(inside, across)
    expected = torch.eye(K) - across @ torch.linalg.solve(probe.T @ across, probe.T)
    erasure = fitted()
    units = r.std(0) / r.std(0)[:, None]  # entries in standard units
    torch.testing.assert_close(erasure.projection * units, expected * units, atol=1e-4, rtol=0)
    again = erasure.projection @ erasure.projection
    torch.testing.assert_close(again, erasure.projection, atol=1e-9, rtol=0)
    assert torch.linalg.matrix_rank(erasure.projection, atol=1e-6) == K - T
    torch.testing.assert_close(erasure(r).mean(0), r.mean(0))


def test_it_changes_less_than_another_erasure():
    """Taking Σ_rt away at right angles, in the same units, erases too, and more."""
    r, t = rows(ROWS, 0)
    r = r / r.std(0)
    erasure = LinearErasure(K, T)
    erasure.fit(r, t)
    centred = r - r.mean(0)
    basis, _ = torch.linalg.qr(centred.T @ (t - t.mean(0)))
    change = (erasure(r) - r).square().sum()
    assert change < 0.98 * (centred @ basis).square().sum()


def test_the_moving_average_begins_with_enough_rows_and_then_erases():
    erasure, batch = LinearErasure(K, T), 8
    mean, second = torch.zeros(K + T).double(), torch.zeros(K + T, K + T).double()
    probe = rows(ROWS, 99)[0]
    first = ROWS_PER_LATENT * K // batch  # steps until there are enough
    for step in range(400):
        r, t = rows(batch, 100 + step)
        if step < first:
            assert torch.equal(erasure(probe), probe)
        erasure.learn(r, t)
        joint = torch.cat([r, t], 1)
        mean = DECAY * mean + (1 - DECAY) * joint.mean(0)
        second = DECAY * second + (1 - DECAY) * joint.T @ joint / batch
    weight = 1 - DECAY**400
    moment = second / weight - torch.outer(mean, mean) / weight**2
    left = erasure.projection @ moment[:K, K:]
    torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-11, rtol=0)
    torch.testing.assert_close(erasure.centre, mean[:K] / weight)
    fit, new = rows(ROWS, 1), rows(ROWS, 2)
    assert read((erasure(fit[0]), fit[1]), (erasure(new[0]), new[1])) < 0.05


def test_gradients_pass_through_the_projection_and_do_not_move_it():
    erasure, r = fitted(), rows(5, 3)[0].requires_grad_()
    out = erasure(r)
    erasure.learn(*rows(5, 4))  # the map may move before the backward pass
    before = fitted().projection
    weights = NoiseStream(3, 0).normal((5, K), torch.float64)
    (gradient,) = torch.autograd.grad((out * weights).sum(), r)
    torch.testing.assert_close(gradient, weights @ before)
    assert not any(parameter.requires_grad for parameter in erasure.parameters())


@pytest.mark.parametrize("second", ["the first", "constant", "no reading of it"])
def test_quantities_that_tell_nothing_more(second):
    r, t = rows(ROWS, 0)
    others = {"the first": t[:, 0], "constant": torch.ones(ROWS), "no reading of it": r[:, 0] ** 2}
    t = torch.stack([t[:, 0], others[second].double()], 1)
    erasure = LinearErasure(K, T)
    erasure.fit(r, t)
    left = covariance(torch.cat([erasure(r) / r.std(0), t], 1))[:K, K:]
    torch.testing.assert_close(left, torch.zeros(K, T).double(), atol=1e-10, rtol=0)


def test_types_and_state():
    erasure, r = fitted(), rows(6, 5)[0]
    assert erasure(r.float()).dtype == torch.float32
    torch.testing.assert_close(erasure(r.float()).double(), erasure(r), atol=1e-5, rtol=1e-5)
    other = LinearErasure(K, T)
    other.load_state_dict(erasure.state_dict())
    for one in (erasure, other):
        one.learn(*rows(8, 6))
    assert torch.equal(other(r), erasure(r))


def test_values_that_are_not_finite_are_for_the_loss_to_report():
    erasure, (r, t) = fitted(), rows(6, 7)
    erasure.learn(r * torch.inf, t)
    assert not torch.isfinite(erasure(r)).all()


def test_what_does_not_fit():
    with pytest.raises(ConfigError, match="more latents than quantities"):
        LinearErasure(3, 3)
    with pytest.raises(ShapeError, match="of 14 numbers together"):
        LinearErasure(K, T).fit(torch.zeros(4, K), torch.zeros(4, 3))
