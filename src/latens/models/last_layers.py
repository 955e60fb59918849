"""The last layer of a decoder in closed form: by labelled fields, or by the energy of an equation.

A decoded field is affine in its mixing matrix W. Least squares against known fields has one
solution per ridge. Where solutions are the minimum of an energy (`latens.objectives.energy`), the
mean energy of all decoded fields is a quadratic function of W and needs no solution:

    Σ_i J_i(g + m ⟨Wᵀ k_i, φ⟩),    Hessian P ↦ Σ_i k_i (k_iᵀ P) Φ_i,   Φ_i = ∫ a_i ∇φ ∇φᵀ

Conjugate gradients minimise it in coordinates where Σ k kᵀ and ∫ ∇φ ∇φᵀ are the identity. There
the Hessian's condition number is at most the contrast of a, so that some tens of iterations do.
They end where the energy of held-out fields ends to fall.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from latens.nets.decoded import DecodedField, affine_basis
from latens.objectives.energy import Energy

RIDGES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""Candidates for the ridge of the last layers, in units of the mean square feature."""

ITERATIONS = 100
PATIENCE = 5
SMALLEST = 1e-12
"""Relative eigenvalue below which features, or functions of a basis, count as dependent."""

BLOCK = 64
"""Fields whose values at all points are held at once."""


def solve_by_fields(
    field: DecodedField, points: Tensor, features: list[Tensor], fields: list[Tensor]
) -> None:
    """Set the mixing of a decoder to the ridge solution that fits validation fields best.

    Args:
        field: Any field of the decoder, for its units and conditions.
        points: Where fields are known, `(P, axes)`.
        features: k of training and validation fields, `(n, patterns, K_b)` each.
        fields: The fields, `(n, patterns, P)` each.
    """
    net = field.net
    offset, basis = affine_basis(net, field.condition, field.scale, field.loc, points)
    known, asked = (f.double() - offset.double() for f in fields)
    k = features[0].double()
    normal = torch.einsum("npk,npl->kl", k, k)
    right = torch.einsum("npk,npx->kx", k, known)
    before = net.mixing.clone()
    best = (features[1] @ (before @ basis) - asked).square().mean(), before
    for ridge in RIDGES:
        net.solve_mixing(normal, right, basis, ridge)
        error = (features[1] @ (net.mixing @ basis) - asked).square().mean()
        if error < best[0]:
            best = error, net.mixing.clone()
    net.set_mixing(best[1])


def solve_by_energy(field: DecodedField, features: list[Tensor], energies: list[Energy]) -> None:
    """Set the mixing of a decoder to the least energy, by conjugate gradients from where it is.

    Args:
        field: Any field of the decoder, for its units and conditions.
        features: k of training and validation fields, `(n, patterns, K_b)` each.
        energies: Those of their coefficients, at the same points.
    """
    train, validation = (
        _Quadratic(field, k.double(), energy) for k, energy in zip(features, energies, strict=True)
    )
    left, right = train.whitening()
    mixing = field.net.mixing.double()
    residual = -left.mT @ train.energy(mixing)[1] @ right
    direction, squares = residual, residual.square().sum()
    best, patience = (validation.energy(mixing)[0], mixing), PATIENCE
    for _ in range(ITERATIONS):
        step = left @ direction @ right.mT
        curved = left.mT @ train.curvature(step) @ right
        length = squares / (direction * curved).sum()
        mixing, residual = mixing + length * step, residual - length * curved
        held_out = validation.energy(mixing)[0]
        patience = PATIENCE if held_out < best[0] else patience - 1
        best = min(best, (held_out, mixing), key=lambda pair: pair[0])
        before, squares = squares, residual.square().sum()
        if patience == 0 or squares == 0:
            break
        direction = residual + squares / before * direction
    field.net.set_mixing(best[1])


class _Quadratic:
    """Mean energy of decoded fields as a function of the mixing matrix, float64."""

    def __init__(self, field: DecodedField, features: Tensor, energy: Energy) -> None:
        offset, basis = field.affine(energy.points)
        self.features, self.form = features, energy
        self.offset, self.slope = offset.value.double(), offset.first.double()
        self.basis, self.slopes = basis.value.double(), basis.first.double().flatten(1)
        self.count = len(features)

    def energy(self, mixing: Tensor) -> tuple[Tensor, Tensor]:
        """Mean energy of all fields, and its gradient `(K_b, K)`."""
        total, gradient = mixing.new_zeros(()), torch.zeros_like(mixing)
        for k, form in self._blocks():
            code = k @ mixing  # (b, patterns, K)
            u = code @ self.basis + self.offset
            first = (code @ self.slopes).unflatten(-1, (2, -1)) + self.slope
            total = total + form.value(u, first).sum()
            flux = (form.stiffness[:, None, None] * first).flatten(2)
            push = flux @ self.slopes.mT - (form.load @ self.basis.mT)[:, None]
            gradient += torch.einsum("npk,npl->kl", k, push)
        return total / self.count, gradient / self.count

    def curvature(self, step: Tensor) -> Tensor:
        """Hessian times a step, `(K_b, K)`."""
        found = torch.zeros_like(step)
        for k, form in self._blocks():
            first = (k @ step @ self.slopes).unflatten(-1, (2, -1))
            flux = (form.stiffness[:, None, None] * first).flatten(2)
            found += torch.einsum("npk,npl->kl", k, flux @ self.slopes.mT)
        return found / self.count

    def whitening(self) -> tuple[Tensor, Tensor]:
        """L and R for which the Hessian of L P Rᵀ is the identity where a is constant."""
        normal = torch.einsum("npk,npl->kl", self.features, self.features) / self.count
        weight = self.form.stiffness.mean(0).repeat(2)
        return _inverse_root(normal), _inverse_root(self.slopes * weight @ self.slopes.mT)

    def _blocks(self) -> Iterator[tuple[Tensor, Energy]]:
        form = self.form
        for rows in torch.arange(self.count).split(BLOCK):
            yield (
                self.features[rows],
                Energy(form.points, form.stiffness[rows], form.load[rows]),
            )


def _inverse_root(matrix: Tensor) -> Tensor:
    """Columns v/√λ of the eigenpairs of a symmetric matrix, small λ left out, `(n, rank)`."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > SMALLEST * values[-1]
    return vectors[:, kept] / values[kept].sqrt()
