"""MultiONet: fields on a continuum from a code, by inner products at several depths.

    v(x; c) = b + (1/L) Σ_l w_l ⟨b_l(c), t_l(x)⟩ / √H,    l = 1, …, L, the deepest levels

b_l and t_l are hidden layers of the branch and the trunk, H functions wide. For given weights the
field is linear in the coefficients that a code has,

    v(x; c) = ⟨W k(c), φ(x)⟩,   k(c) = (b_1(c), …, b_L(c), 1, c) ∈ R^(L H + 1 + code),

where φ holds the functions of the trunk, 1, and fixed cosines. W starts as the identity on the
former and zero on the cosines. Its rows of c, a straight way from code to field that starts at
zero, are trained with the rest: an expansion in cosines, such as that of a random field, needs no
more, and through layers alone it is learned slowly or never. Once branch and trunk are trained,
all of W is solved for in closed form (`solve_mixing`): a gradient method leaves most of that
least-squares problem undone, since its condition number is that of the features squared.

For given weights the basis φ at fixed points, its derivatives and Laplacians are computed once for
all codes, and what is left per code is the branch and one product.

| symbol | attribute | shape |
|---|---|---|
| c | – | (…, code) |
| W k(c) | `coefficients` | (…, K) |
| φ(x) | `basis` | (P, axes) → (K, P) |
| φ, ∂φ, ∂²φ | `jet` | (P, axes) → values (K, P), derivatives (K, axes, P) |

References:
    Zang, Koutsourelakis (2025), DGenNO, https://arxiv.org/abs/2502.06250;
    Bao, Zang (2025), A unified physics-informed generative operator framework for general inverse
    problems, https://arxiv.org/abs/2511.03241.
"""

import itertools
import math

import torch
from torch import Tensor, nn

from latens.errors import ConfigError, ShapeError
from latens.nets.jets import (
    Jet,
    constant_function,
    coordinates,
    cosine,
    joined,
    outer,
    tanh,
    waves,
)


class MultiONet(nn.Module):
    """Decoder from a code to a field.

    Args:
        code: Length of c.
        axes: Coordinates of a point.
        width: H, width of every layer of branch and trunk.
        depth: Layers of each.
        levels: L, deepest layers that meet.
        waves: Wave numbers k up to which cos(2πkx), sin(2πkx) of every coordinate are inputs of
            the trunk beside the coordinates: the details that it represents without training.
        modes: J; products of cos(πjx), j ≤ J, along every coordinate join the basis. Along the
            coordinate of a period they are cos(2πjx) and sin(2πjx).
        periodic: Whether the field has period 1 along its first coordinate; that coordinate then
            enters through its waves alone.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(
        self,
        code: int,
        axes: int = 2,
        *,
        width: int = 64,
        depth: int = 4,
        levels: int = 3,
        waves: int = 2,
        modes: int = 8,
        periodic: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (
            *(("code", code), ("axes", axes), ("width", width)),
            *(("levels", levels), ("modes", modes)),
        ):
            if value < 1:
                raise ConfigError(name, "1 or more", value, "Raise it.")
        if depth < levels:
            raise ConfigError(
                "levels", f"at most `depth` ({depth})", levels, "Lower it, or add layers."
            )
        if waves < int(periodic):
            raise ConfigError(
                "waves",
                "1 or more for a periodic field, else 0 or more",
                waves,
                "A periodic field sees its position through waves alone.",
            )
        self.axes, self.width, self.levels = axes, width, levels
        self.waves, self.periodic = waves, periodic
        inputs = 2 * waves * axes + axes - int(periodic)
        self.trunk = _layers(inputs, width, depth)
        self.branch = _layers(code, width, depth)
        self.level_weights = nn.Parameter(torch.ones(levels))
        self.bias = nn.Parameter(torch.zeros(1))
        self.modes = modes
        features = levels * width + 1
        fixed = (2 * modes + 1 if periodic else modes + 1) * (modes + 1) ** (axes - 1)
        self.register_buffer("layered", torch.eye(features, features + fixed))
        self.straight = nn.Parameter(torch.zeros(code, features + fixed))

    layered: Tensor

    @property
    def mixing(self) -> Tensor:
        """W transposed, `(L H + 1 + code, K)`."""
        return torch.cat([self.layered, self.straight])

    @torch.no_grad()
    def set_mixing(self, mixing: Tensor) -> None:
        """Give W another value, `(L H + 1 + code, K)`."""
        self.layered.copy_(mixing[: len(self.layered)])
        self.straight.copy_(mixing[len(self.layered) :])

    @property
    def size(self) -> int:
        """K, number of functions of the basis."""
        return self.layered.shape[1]

    def coefficients(self, code: Tensor) -> Tensor:
        """W k(c), `(..., K)`, of codes `(..., code)`."""
        return self.features(code) @ self.mixing

    def features(self, code: Tensor) -> Tensor:
        """k(c), `(..., L H + 1 + code)`, of codes `(..., code)`."""
        h, parts = code, []
        for index, layer in enumerate(self.branch):
            h = torch.nn.functional.silu(layer(h))
            if index >= len(self.branch) - self.levels:
                parts.append(h)  # (..., H)
        scale = self.level_weights / (self.levels * self.width**0.5)
        mixed = torch.stack(parts, -2) * scale[:, None]  # (..., L, H)
        return torch.cat([mixed.flatten(-2), self.bias.expand(*code.shape[:-1], 1), code], -1)

    def basis(self, points: Tensor) -> Tensor:
        """φ at points `(P, axes)`, `(K, P)`."""
        require_points(points, self.axes)
        h = self._inputs(points).value.mT  # (P, inputs)
        parts = []
        for index, layer in enumerate(self.trunk):
            h = torch.tanh(layer(h))
            if index >= len(self.trunk) - self.levels:
                parts.append(h)
        learned = torch.cat([*parts, h.new_ones(len(h), 1)], -1).mT
        return torch.cat([learned, self._fixed(points).value], 0)

    def jet(self, points: Tensor) -> Jet:
        """φ with its first and second derivatives at points `(P, axes)`, value `(K, P)`.

        One pass of forward-mode Taylor through the trunk; no graph is differentiated for it, and
        gradients still flow to the weights.
        """
        require_points(points, self.axes)
        h, parts = self._inputs(points), []
        for index, layer in enumerate(self.trunk):
            assert isinstance(layer, nn.Linear)
            a = h.combined(layer.weight)
            h = Jet(a.value + layer.bias[:, None], a.first, a.second).through(tanh)
            if index >= len(self.trunk) - self.levels:
                parts.append(h)
        return joined([*parts, constant_function(points), self._fixed(points)])

    def forward(self, code: Tensor, points: Tensor) -> Tensor:
        """v at points `(P, axes)` for codes `(..., code)`, `(..., P)`."""
        return self.coefficients(code) @ self.basis(points)

    def _fixed(self, points: Tensor) -> Jet:
        """Products of cosines, in order of the last coordinate first."""
        position = coordinates(points)
        product = constant_function(points)
        for axis in range(self.axes):
            t = Jet(*(part[axis : axis + 1] for part in position.parts))
            if axis == 0 and self.periodic:
                along = joined([constant_function(points), waves(t, self.modes)])
            else:
                j = math.pi * torch.arange(self.modes + 1, dtype=points.dtype)
                along = t.combined(j[:, None].to(points.device)).through(cosine)
            product = outer(product, along)
        return product

    @torch.no_grad()
    def solve_mixing(self, normal: Tensor, right: Tensor, basis: Tensor, ridge: float) -> None:
        """Set W to the least-squares solution for given fields.

            X = (Σ k kᵀ + λ I)⁻¹ Σ k f,    W = X φ⁺

        Args:
            normal: Σ k kᵀ over fields, `(L H + 1 + code, L H + 1 + code)`, float64.
            right: Σ k f, f at P points, `(L H + 1 + code, P)`, float64.
            basis: φ as the fields see it (units and multiplier included), `(K, P)`.
            ridge: λ in units of the mean diagonal of `normal`.
        """
        eye = torch.eye(len(normal), dtype=normal.dtype, device=normal.device)
        free = torch.linalg.solve(normal + ridge * normal.diagonal().mean() * eye, right)
        mixing = free @ torch.linalg.pinv(basis.double(), rtol=1e-8)
        self.set_mixing(mixing)

    def _inputs(self, points: Tensor) -> Jet:
        """What the trunk sees of a point."""
        position = coordinates(points)
        start = int(self.periodic)
        plain = Jet(position.value[start:], position.first[start:], position.second[start:])
        return joined([plain, waves(position, self.waves)]) if self.waves else plain


def require_points(points: Tensor, axes: int) -> None:
    """Check positions.

    Raises:
        ShapeError: If they are not `(P, axes)`.
    """
    if points.ndim != 2 or points.shape[1] != axes:
        raise ShapeError(
            "points", f"shape (P, {axes})", tuple(points.shape), "Give one row per point."
        )


def _layers(inputs: int, width: int, depth: int) -> nn.ModuleList:
    sizes = [inputs, *[width] * depth]
    return nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
