"""IGNO: a generative model of a coefficient and the solution of its equation.

    z ~ N(0, I),  w = T(z),  β = tanh w ∈ (−1, 1)^d
    a ~ p(a | β) = N(D_a(β), σ_a²)                  or two-valued with logits D_a(β)
    u ~ p(u | β) = N(g + m D_u(β, l), σ_u²)         labelled pairs (a, u), where there are any
    0 ~ N(R(a, D_u(β)), σ_r²)                       the equation, as virtual observations
    q(w | a) = N(μ(a), diag σ(a)²)

    max E_q[log p(a | β) + log p(u | β) + log p(0 | R)] − KL(q(w | a) ‖ p(w))

The evidence is `pairs`, the `residual`, or `both`. Trained in two stages, p(w) is N(0, I) in the
first, `fields`, and in the second, `prior`, the flow T is fitted to E_a[q(w | a)] by maximum
likelihood, which is what the same bound asks of p(w). Trained jointly there is one stage, and
KL(q ‖ p) is estimated from the draw. All scales are learned, so no term has a weight.

β(z) lies in the box whatever z is, and the density of β follows by the change of variables:
log p(β) = log N(z) + log |∂z/∂w| − Σ log(1 − β²).

| symbol | attribute | shape |
|---|---|---|
| q(w ∣ a) | `encoder` | (B, *signal) → batch (B,), event (dim,) |
| p(w) | `prior` | batch (1,), event (dim,) |
| T | `push` | (…, dim) → (…, dim) |
| p(a ∣ β) | `decode` | w (…, dim) → batch (…), event (*signal) |
| D_a, u | `coefficient`, `solution` | w (B, dim) → fields (B, P), (B, patterns, P) |

References:
    Bao, Zang (2025), A unified physics-informed generative operator framework for general inverse
    problems, https://arxiv.org/abs/2511.03241;
    Zang, Koutsourelakis (2025), DGenNO, https://arxiv.org/abs/2502.06250;
    Chen et al. (2017), Variational lossy autoencoder, https://arxiv.org/abs/1611.02731.
"""

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from latens.distributions import NoiseStream, RefinedNormal, diagonal_normal, draw
from latens.distributions.two_valued import TwoValued
from latens.errors import ConfigError, DataError, ShapeError
from latens.models.base import Model
from latens.models.last_layers import solve_by_energy, solve_by_fields
from latens.nets import AffineFlow, Architecture, Conv, Flow
from latens.nets.architecture import DenseGaussianVector
from latens.nets.boundary import Free
from latens.nets.decoded import DecodedField
from latens.nets.moving import left
from latens.nets.multionet import MultiONet
from latens.nets.scale import SharedScale
from latens.objectives import LossTerms, elbo_terms
from latens.objectives.equations import Equation, Field, NodalField
from latens.problems import InverseProblem
from latens.types import Shape

Pair = tuple[Tensor, Tensor]

Values = Literal["continuous", "two-valued"]
Evidence = Literal["pairs", "residual", "both"]
Schedule = Literal["staged", "joint"]


class IGNO(Model):
    """Generative neural operator of one equation.

    Args:
        signal_shape: `(1, *grid)` of the coefficient.
        measurement_shape: `(patterns, *grid)` of the solution on its nodes.
        equation: Domains, conditions and residual.
        dim: d, number of latents.
        values: Whether coefficients are continuous or take two values.
        evidence: What the solution's decoder learns from.
        schedule: Two stages or one; see above.
        architecture: Family of the encoder; default `Conv()`.
        flow: Family of T; default `AffineFlow()`.
        width: Functions per level of both decoders.
        depth: Layers of branch and trunk.
        levels: Deepest layers that meet.
        waves: Wave numbers that the trunks see of a position.
        modes: Largest wave number of the fixed cosines of both decoders.
        discs: Test functions per step, drawn anew; all where the equation has fewer.

    Raises:
        ConfigError: If a setting is unknown or out of range.
        ShapeError: If the solution has not as many fields as there are patterns.
    """

    def __init__(
        self,
        signal_shape: Shape,
        measurement_shape: Shape,
        equation: Equation,
        *,
        dim: int = 8,
        values: Values = "continuous",
        evidence: Evidence = "pairs",
        schedule: Schedule = "staged",
        architecture: Architecture | None = None,
        flow: Flow | None = None,
        width: int = 64,
        depth: int = 4,
        levels: int = 3,
        waves: int = 2,
        modes: int = 8,
        discs: int = 48,
    ) -> None:
        super().__init__(signal_shape, measurement_shape)
        for name, value, known in (
            ("values", values, ("continuous", "two-valued")),
            ("evidence", evidence, ("pairs", "residual", "both")),
            ("schedule", schedule, ("staged", "joint")),
        ):
            if value not in known:
                raise ConfigError(name, f"one of {', '.join(known)}", repr(value), "Choose one.")
        for name, value in (("dim", dim), ("discs", discs)):
            if value < 2:
                raise ConfigError(name, "2 or more", value, "Raise it.")
        if measurement_shape[0] != equation.patterns:
            raise ShapeError(
                "measurement_shape",
                f"{equation.patterns} fields, one per pattern of the equation",
                tuple(measurement_shape),
                "Give the solution of every pattern.",
            )
        if values == "two-valued" and evidence != "pairs" and not equation.reads_nodes:
            raise ConfigError(
                "evidence",
                "'pairs' for two-valued coefficients, unless the residual is in weak form",
                repr(evidence),
                "Set `evidence: pairs`, or `form: weak` of the equation.",
            )
        self.equation = equation
        self.dim, self.values, self.evidence, self.discs = dim, values, evidence, discs
        staged = schedule == "staged"
        self.stages = ("fields", "prior") if staged else ("joint",)  # pyright: ignore
        nets = architecture or Conv()
        self.encoder_net = nets.posterior([self.signal_shape], dim, signal_shape)
        self.flow = (flow or AffineFlow()).refinement(dim)
        size = {
            "width": width,
            "depth": depth,
            "levels": levels,
            "waves": waves,
            "modes": modes,
        }
        axes, periodic = equation.coefficient_axes, equation.periodic
        self.coefficient_net = MultiONet(dim, axes, **size, periodic=periodic)
        code = dim + (equation.patterns if equation.patterns > 1 else 0)
        self.solution_net = MultiONet(code, equation.solution_axes, **size, periodic=periodic)
        self.coefficient_scale = SharedScale(1e-4, 3.0, 0.3)
        self.solution_scale = SharedScale(1e-5, 3.0, 0.3)
        self.residual_scale = SharedScale(1e-4, 10.0, 1.0)
        self.register_buffer("classes", torch.tensor([0.0, 1.0]))
        self.register_buffer("nodes", equation.coefficient_points(signal_shape).float())
        self.register_buffer("outputs", equation.solution_points(measurement_shape).float())

    classes: Tensor
    nodes: Tensor
    outputs: Tensor

    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Units of both fields; the two values of a two-valued coefficient; a dense start.

        Raises:
            DataError: If a two-valued coefficient takes more or fewer values.
        """
        super().fit_units(x, self.equation.entered(x, y))
        if isinstance(self.encoder_net, DenseGaussianVector):
            self.encoder_net.start_at_principal_scores(self.signal_units(x))
        if self.values == "two-valued":
            found = torch.unique(x)
            if len(found) != 2:
                raise DataError(
                    "x",
                    "fields of two values",
                    f"{len(found)} different values",
                    "Set `values: continuous`, or threshold the fields.",
                )
            self.classes.copy_(found)

    def encoder(self, a: Tensor) -> Independent:
        """q(w | a)."""
        return self.encoder_net(self.signal_units(a))

    def prior(self) -> RefinedNormal:
        """p(w), batch `(1,)`: T of a standard normal vector."""
        zeros = self.nodes.new_zeros(1, self.dim)
        return self.flow(diagonal_normal(zeros, torch.ones_like(zeros), 1))

    def push(self, z: Tensor) -> Tensor:
        """w = T(z), `(..., dim)`."""
        return draw(self.prior(), z.unsqueeze(-2)).squeeze(-2)

    def pull(self, w: Tensor) -> Tensor:
        """z = T⁻¹(w), `(..., dim)`."""
        white = self.prior().whitening(w.unsqueeze(-2))
        assert white is not None
        return white.squeeze(-2)

    def log_density(self, w: Tensor) -> Tensor:
        """log p(w), nats, `(...)` of `(..., dim)`."""
        return self.prior().log_prob(w.unsqueeze(-2)).squeeze(-1)

    def coefficient(self, w: Tensor) -> DecodedField:
        """D_a, data units; logits where the coefficient has two values."""
        units = self.signal_units
        two = self.values == "two-valued"
        loc, scale = (0.0, 1.0) if two else (units.loc, units.scale)
        net = self.coefficient_net
        return DecodedField(net, net.coefficients(torch.tanh(w)), Free(), scale, loc)

    def decode(self, w: Tensor) -> Distribution:
        """p(a | β) on the nodes, data units, batch `(...)` of w `(..., dim)`."""
        at_nodes = self.coefficient(w).value(self.nodes)
        fields = at_nodes.unflatten(-1, self.signal_shape)  # (..., *signal)
        axes = len(self.signal_shape)
        if self.values == "two-valued":
            return TwoValued(fields, self.classes[0], self.classes[1], axes)
        scale = self.signal_units.scale * self.coefficient_scale.value
        return diagonal_normal(fields, scale.expand_as(fields), axes)

    def solution_code(self, w: Tensor) -> Tensor:
        """Coefficients of u in its basis, `(..., patterns, K)`, of w `(..., dim)`."""
        return self.solution_features(w) @ self.solution_net.mixing

    def solution_features(self, w: Tensor) -> Tensor:
        """Features of the branch of u, `(..., patterns, K_b)`, of w `(..., dim)`."""
        beta, count = torch.tanh(w), self.equation.patterns
        if count == 1:
            return self.solution_net.features(beta).unsqueeze(-2)
        eye = torch.eye(count, dtype=w.dtype, device=w.device)
        wide = beta.unsqueeze(-2).expand(*beta.shape[:-1], count, beta.shape[-1])
        code = torch.cat([wide, eye.expand(*beta.shape[:-1], count, count)], -1)
        return self.solution_net.features(code)

    def solution(self, w: Tensor) -> DecodedField:
        """g + m D_u of every pattern in the equation's frame, data units."""
        condition = self.equation.condition
        scale = self.measurement_units.scale
        return DecodedField(self.solution_net, self.solution_code(w), condition, scale, 0.0)

    def solved(self, w: Tensor) -> Tensor:
        """u on its nodes, `(B, *measurement_shape)` of w `(B, dim)`."""
        at_nodes = self.solution(w).value(self.outputs)
        if self.equation.moves:
            mean = self.coefficient(w).value(self.nodes).mean(-1)  # (B,)
            nodes = self.outputs[:, 0].to(w)
            at_nodes = left(at_nodes, mean[:, None], self.equation.time, nodes)
        return at_nodes.reshape(len(w), *self.measurement_shape)

    def stage_event_size(self, stage: str) -> int:
        """Elements of the coefficient, or of the latents in stage `prior`."""
        return self.dim if stage == "prior" else self.event_size

    def stage_parameters(self, stage: str) -> Iterable[nn.Parameter]:
        """The flow in stage `prior`, all else in `fields`, everything in `joint`."""
        flow = list(self.flow.parameters())
        if stage == "prior":
            return flow
        return [p for p in self.parameters() if stage == "joint" or all(p is not f for f in flow)]

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """The bound of log p(a, u, 0), or log p(w) of a draw of q(w | a)."""
        posterior = self.encoder(x)
        w = draw(posterior, noise.normal((len(x), self.dim)))  # (B, dim)
        if stage == "prior":
            return LossTerms(self.log_density(w.detach()))
        if stage == "fields":
            zeros = torch.zeros_like(posterior.mean)
            standard = diagonal_normal(zeros, torch.ones_like(zeros), 1)
            terms = elbo_terms(x, self.decode(w), posterior, standard)
        else:
            kl = posterior.log_prob(w) - self.log_density(w)
            terms = LossTerms(self.decode(w).log_prob(x), kl)
        return LossTerms(terms.log_likelihood + self._evidence(x, y, w, noise), terms.kl)

    def _evidence(self, x: Tensor, y: Tensor, w: Tensor, noise: NoiseStream) -> Tensor:
        """log p(u | β) + log p(0 | R), nats, `(B,)`."""
        solution = self.solution(w)
        total = torch.zeros_like(x[:, 0].flatten(1)[:, 0])
        if self.evidence != "residual":
            decoded = solution.value(self.outputs).reshape(y.shape)
            scale = self.measurement_units.scale * self.solution_scale.value
            total = total + shared_scale_log_prob(self.equation.entered(x, y) - decoded, scale)
        if self.evidence != "pairs":
            rows = noise.permutation(self.equation.discs)[: self.discs]
            r = self.equation.residual(self._known(x, w), solution, rows)  # (B, n)
            all_of_them = self.equation.discs / len(rows)
            total = total + all_of_them * shared_scale_log_prob(r, self.residual_scale.value)
        return total

    @torch.no_grad()
    def solve_last_layers(self, train: Pair, validation: Pair, noise: NoiseStream) -> None:
        """Solve for the mixing matrices of both decoders (`latens.models.last_layers`).

        Codes are draws of q(w | a), so that the solution is as smooth in w as q is wide. Without
        labels that of the solution has the least energy, where the equation has one. Logits, and
        a solution without labels or energy, are left as they are. Scales are set anew.

        Args:
            train, validation: Coefficients and solutions.
            noise: Source of every random number.
        """
        codes = [
            draw(self.encoder(x), noise.normal((len(x), self.dim))) for x, _ in (train, validation)
        ]
        if self.values == "continuous":
            fields = [x.flatten(1)[:, None] for x, _ in (train, validation)]
            features = [self.coefficient_net.features(torch.tanh(w))[:, None] for w in codes]
            solve_by_fields(self.coefficient(codes[0]), self.nodes, features, fields)
        features = [self.solution_features(w) for w in codes]
        if self.evidence != "residual":
            fields = [self.equation.entered(x, u).flatten(2) for x, u in (train, validation)]
            solve_by_fields(self.solution(codes[0]), self.outputs, features, fields)
        else:
            energies = [self.equation.energy(x) for x, _ in (train, validation)]
            known = [energy for energy in energies if energy is not None]
            if known:
                solve_by_energy(self.solution(codes[0]), features, known)
        self.fit_scale(*validation, noise)

    def _known(self, x: Tensor, w: Tensor) -> Field:
        """The coefficient that the residual sees: the data's where no derivative is needed."""
        return NodalField(x) if self.equation.reads_nodes else self.coefficient(w)

    @torch.no_grad()
    def fit_scale(self, x: Tensor, y: Tensor, noise: NoiseStream) -> None:
        """Scales at the root mean square error of held-out fields, decoded from draws of q."""
        posterior = self.encoder(x)
        w = draw(posterior, noise.normal((len(x), self.dim)))
        if self.values == "continuous":
            error = (self.decode(w).mean - x).square().mean().sqrt()
            self.coefficient_scale.set(error / self.signal_units.scale)
        if self.evidence != "residual":
            decoded = self.solution(w).value(self.outputs).reshape(y.shape)
            error = (decoded - self.equation.entered(x, y)).square().mean()
            self.solution_scale.set(error.sqrt() / self.measurement_units.scale)


def shared_scale_log_prob(error: Tensor, scale: Tensor) -> Tensor:
    """Σ log N(error; 0, σ²) of one σ for all elements, `(B,)` nats of `(B, ...)`.

    The squares are summed before they are divided: for the twenty potentials of a conductivity a
    training step is half as long as with a distribution that holds σ once per element.
    """
    count = error[0].numel()
    squares = error.flatten(1).square().sum(1)
    return -0.5 * (squares / scale.square() + count * math.log(2 * math.pi)) - count * scale.log()
