"""The equation as evidence about latents: its residual at fixed points, and what it weighs.

    log p(0 | w) = −ρ mean R(a, u)²,    ρ = n / (2 s²),    s² = E[R²] over held-out fields

Test functions and points are fixed and the model is trained, so that the trunks of both decoders
are evaluated there once, with their derivatives; R then costs one product per decoded function.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latens.errors import UnsupportedError
from latens.models.igno import IGNO
from latens.nets.decoded import DecodedField
from latens.nets.jets import Jet

BLOCK = 64
"""Fields whose residuals are evaluated at once."""
POINTS = 48
"""Test functions or points at which the residual is taken."""


class FixedResidual:
    """R of decoded fields at some of the equation's test functions, evenly chosen.

    Args:
        model: Trained model. What its trunks give is kept: training on would not be seen.
        count: Test functions or points; all where the equation has fewer.
    """

    def __init__(self, model: IGNO, count: int = POINTS) -> None:
        self.model = model
        discs = model.equation.discs
        self.rows = torch.linspace(0, discs - 1, min(count, discs)).round().long()
        self.nets = model.coefficient_net, model.solution_net
        probe = model.nodes.new_zeros(1, model.dim)
        with torch.no_grad():
            asked = Asked(model.coefficient(probe)), Asked(model.solution(probe))
            model.equation.residual(*asked, self.rows)
            self._tables = [
                [(offset, basis.combined(net.mixing)) for offset, basis in part.tables]
                for net, part in zip(self.nets, asked, strict=True)
            ]

    def __call__(self, w: Tensor) -> Tensor:
        """R at latents w, `(C, n)` of `(C, dim)`, natural units of the equation."""
        model, (of_a, of_u) = self.model, self._tables
        a = Answers(self.nets[0].features(torch.tanh(w)), iter(of_a))
        u = Answers(model.solution_features(w), iter(of_u))
        return model.equation.residual(MeanCoefficient(model, a), u, self.rows)


@dataclass(frozen=True, eq=False)
class Asked:
    """A decoded field that notes what it is asked for.

    Attributes:
        tables: Offset and basis of the field at the points of each question, in turn.
    """

    decoded: DecodedField
    tables: list[tuple[Jet, Jet]] = field(default_factory=list)

    def value(self, points: Tensor) -> Tensor:
        """Values at points."""
        return self.jet(points).value

    def jet(self, points: Tensor) -> Jet:
        """Values and derivatives at points."""
        self.tables.append(self.decoded.affine(points))
        return self.decoded.jet(points)


@dataclass(frozen=True, eq=False)
class Answers:
    """The same questions again, of other latents.

    Args:
        codes: Features of the branch, `(..., K)`.
        tables: Offset and basis, functions of those features, at the points of each question.
    """

    codes: Tensor
    tables: Iterator[tuple[Jet, Jet]]

    def value(self, points: Tensor) -> Tensor:
        """Values at the points of the next question."""
        offset, basis = next(self.tables)
        return offset.value + self.codes @ basis.value

    def jet(self, points: Tensor) -> Jet:
        """Values and derivatives at the points of the next question."""
        offset, basis = next(self.tables)
        return basis.combined(self.codes) + offset


@dataclass(frozen=True, eq=False)
class MeanCoefficient:
    """E[a | w] as a field; the residual in weak form asks for its values alone.

    Args:
        model: Trained model.
        decoded: D_a, logits where the coefficient takes two values.
    """

    model: IGNO
    decoded: Answers | DecodedField

    def value(self, points: Tensor) -> Tensor:
        """Values `(C, P)`."""
        values = self.decoded.value(points)
        if self.model.values == "continuous":
            return values
        low, high = self.model.classes
        return low + (high - low) * torch.sigmoid(values)

    def jet(self, points: Tensor) -> Jet:
        """Values and derivatives.

        Raises:
            UnsupportedError: If the coefficient takes two values.
        """
        if self.model.values == "two-valued":
            raise UnsupportedError(
                "form", "'weak', for two-valued coefficients", "'strong'", "Set `form: weak`."
            )
        return self.decoded.jet(points)


@torch.no_grad()
def held_out_weight(model: IGNO, fields: Tensor) -> float:
    """ρ for which residuals are as large as those of held-out fields, each on its own.

    Neighbouring test functions overlap and their residuals are alike, so that this counts the
    evidence of the equation more than once.

    Args:
        model: Trained model.
        fields: a that it was not trained on, `(n, *signal_shape)`.
    """
    residual = FixedResidual(model)
    r = torch.cat([residual(model.encoder(a).mean) for a in fields.split(BLOCK)])
    return r.shape[1] / (2 * float(r.square().mean()))
