"""How wrong a trained model is where it was not trained: joint errors of field and readings.

    a = D_a(w) + r,    F(a) = G(w) + e,    w = E_q[w | a],    (r, e) of held-out pairs

The code of a field is the mean of its q: with draws of q, (r, e) would hold how uncertain a code
is, which the posterior of w says already, and bands would be too wide.

A prediction that ignores e is overconfident: where the surrogate is off by more than the noise,
the posterior concentrates beside the truth. So e enters the likelihood,

    y = G(w) + e + n,    e ~ N(ē, C),    n ~ N(0, σ² I),

and since what is left of the readings also speaks about r, draws of a are made by Matheron's rule
with errors (r_i, e_i) of a held-out pair drawn at random,

    a = D_a(w) + r_i + Γ (y − G(w) − e_i − n),    Γ = Cov(r, e) (C + σ² I)⁻¹.

C has few directions, and the variance of e outside them, of the same size in each of the others,
is added to σ².

Nothing here has seen a measured field.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latens.errors import DataError
from latens.inference.fields.sensors import Predictor
from latens.models.igno import IGNO

RANK = 64
"""Largest number of directions of reading errors that are kept."""


@dataclass(frozen=True, eq=False)
class HeldOutErrors:
    """Errors of a model on n pairs that it was not trained on.

    Attributes:
        field: r, `(n, *signal_shape)`, data units.
        readings: e, `(n, m)`.
        bias: ē, `(m,)`.
        directions: Orthonormal directions of e, `(m, k)`.
        variances: Variance of e along each, `(k,)`, units of the readings squared.
        leak: Cov(r, e) along the directions, `(nodes, k)`.
        remainder: Variance of e along any direction across them, units of the readings squared.
    """

    field: Tensor
    readings: Tensor
    bias: Tensor
    directions: Tensor
    variances: Tensor
    leak: Tensor
    remainder: float = 0.0

    def expected(self, innovation: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of r given y − G(w), a joint Gaussian of (r, e) assumed.

        Args:
            innovation: y − G(w), `(..., m)`.
            scale: σ, broadcastable to `(...)`.

        Returns:
            r̄ + Γ (y − G(w) − ē) and Var r − diag Γ Cov(e, r), `(..., *signal_shape)`, the second
            broadcastable to the first.
        """
        shape = self.field.shape[1:]
        total = self.variances + scale[..., None].square()  # (..., k)
        projected = (innovation - self.bias) @ self.directions / total
        mean = self.field.mean(0) + (projected @ self.leak.mT).unflatten(-1, shape)
        explained = (1 / total) @ self.leak.square().mT  # (..., nodes)
        spread = self.field.var(0).flatten()
        return mean, (spread - explained).clamp(min=0).unflatten(-1, shape)

    def corrections(
        self, innovation: Tensor, scale: Tensor, rows: Tensor, noise: Tensor
    ) -> Tensor:
        """r_i + Γ (y − G(w) − e_i − n).

        Args:
            innovation: y − G(w), `(..., m)`.
            scale: σ, broadcastable to `(...)`.
            rows: i, `(...)`.
            noise: n/σ, `(..., m)`.

        Returns:
            `(..., *signal_shape)`.
        """
        sigma = scale[..., None]
        left = innovation - self.readings[rows] - sigma * noise  # (..., m)
        projected = left @ self.directions / (self.variances + sigma.square())
        return self.field[rows] + (projected @ self.leak.mT).unflatten(-1, self.field.shape[1:])

    def thresholds(self, rows: Tensor, share: Tensor, span: Tensor) -> Tensor:
        """Levels T of two-valued fields: a draw has the upper class where its probability is more.

        Of a pair with probabilities p and classes χ every T in [0, p) gives χ = 1 and every T in
        [p, 1] gives χ = 0; taken is the share s of that range. Where probabilities are calibrated,
        T is uniform at every node, over pairs and s, so that draws have the probabilities that
        were decoded; and it is off by regions, as decoded fields are.

        Args:
            rows: Number of the pair of each draw, `(...)`.
            share: s, uniform on [0, 1], `(...)`.
            span: Difference of the two values, data units.

        Returns:
            `(..., *signal_shape)`.
        """
        r = self.field[rows] / span  # χ − p
        s = share.reshape(*share.shape, *[1] * (self.field.ndim - 1))
        return torch.where(r > 0, s * (1 - r), -r + s * (1 + r))


@torch.no_grad()
def held_out_errors(
    model: IGNO, predict: Predictor, fields: Tensor, readings: Tensor
) -> HeldOutErrors:
    """Errors of a model and a predictor on pairs that neither was trained on.

    Args:
        model: Trained model.
        predict: G.
        fields: a, `(n, *signal_shape)`.
        readings: F(a) without noise, `(n, m)`.

    Raises:
        DataError: If there are fewer than 20 pairs.
    """
    count = len(fields)
    if count < 20:
        raise DataError("fields", "20 held-out pairs or more", count, "Hold out more fields.")
    w = model.encoder(fields).mean
    r = fields - model.decode(w).mean
    e = readings - predict(w)
    bias = e.mean(0)
    centred = (e - bias).double()  # (n, m)
    vectors, singular, _ = torch.linalg.svd(centred.mT, full_matrices=False)
    variances = singular.square() / (count - 1)
    kept = min(RANK, count // 4, int((variances > 1e-10 * variances[0]).sum()))
    directions = vectors[:, :kept]
    scores = centred @ directions  # (n, k)
    leak = (r - r.mean(0)).flatten(1).double().mT @ scores / (count - 1)  # (nodes, k)
    across = max(centred.shape[1] - kept, 1)
    remainder = float(variances[kept:].sum()) / across
    kind = fields.dtype
    return HeldOutErrors(
        r, e, bias, directions.to(kind), variances[:kept].to(kind), leak.to(kind), remainder
    )
