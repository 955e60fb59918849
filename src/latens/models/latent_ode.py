"""Latent ODE of a lesion under treatment, read at irregular visits.

    z(t₁) = (y₁ + c ε₀, ε_rest),   ε ~ N(0, I)              prior
    dz_vol/dt = α(κ − z_vol) + η h_θ(z),  dz_rest/dt = η f_θ(z)      between visits
    y_k ~ repeat of y_k−1 | vanished | Normals(z_vol(t_k), s(z, …))       a reading, left-censored
    z⁺ = z⁻ + J_θ(z⁻, y_k)                                             after it
    q(ε | y₁ … y_n) = N(μ, diag σ²) of a recurrent network         inference model

    log p(y₂ … y_n | y₁) ≥ E_q[Σ_k log p(y_k | ε, y₁ … y_k−1)] − KL(q ‖ N(0, I))

Without the jump J the trajectory would be fixed by the first visit for ever, and a change that the
drift does not foresee would have to be noise at every later visit. With `timed` the networks of
the field see the time since the first visit too, h_θ(z, t) and f_θ(z, t): a treatment begins
there. Levels are logs of volumes over the limit of detection, times are in units of the usual gap.

| symbol | attribute | shape |
|---|---|---|
| f, h, α, κ, η | `ode.field` | z (…, dim) → (…, dim) |
| p(y_k ∣ …) | `reading` | batch (…, B) |
| J | `jump` | (…, dim) → (…, dim) |
| q(ε ∣ y) | `posterior` | batch (B,), event (dim,) |

Rubanova, Chen, Duvenaud (2019), Latent ODEs for irregularly sampled time series,
https://arxiv.org/abs/1907.03907; De Brouwer et al. (2019), GRU-ODE-Bayes,
https://arxiv.org/abs/1905.12374.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from torch.nn import functional as F

from latens.distributions import NoiseStream, Reading, diagonal_normal, draw
from latens.errors import ConfigError
from latens.models.base import Model
from latens.models.visits import Visits
from latens.nets.ode import GompertzField, Gradient, RowwiseODE
from latens.objectives import LossTerms
from latens.objectives.elbo import kl_divergence
from latens.problems import InverseProblem

_CENTRE, _SPREAD = 7.0, 2.5
"""Level that networks see as 0, and the distance that they see as 1."""
_CONTEXT = 7
_HEADS = 7


class LatentODE(Model):
    """Latent ODE over volume series.

    Args:
        visits: T, the padded length of the series that it is trained on.
        dim: Latents, the level of the lesion included.
        width: Hidden units of every network.
        steps: Steps of the solver between two visits.
        gradient: How gradients of the solution are taken.
        timed: Whether f and h see the time since the first visit.

    Raises:
        ConfigError: If there are fewer than two visits or latents.
    """

    def __init__(
        self,
        visits: int,
        *,
        dim: int = 5,
        width: int = 32,
        steps: int = 1,
        gradient: Gradient = "backprop",
        timed: bool = False,
    ) -> None:
        if visits < 2 or dim < 2:
            raise ConfigError(
                "visits, dim", "2 or more of each", (visits, dim), "Use for example 5 latents."
            )
        super().__init__((visits, 4), (visits, 4))
        self.dim = dim
        field = GompertzField(
            dim,
            width,
            plateau=_CENTRE,
            centre=_CENTRE,
            spread=_SPREAD,
            rate=0.03,
            residual=0.05,
            timed=timed,
        )
        self.ode = RowwiseODE(field, steps, gradient)
        self.log_first = nn.Parameter(torch.tensor(0.1).log())
        self.recurrent = nn.GRU(_CONTEXT + 1, width, batch_first=True)
        self.posterior_head = nn.Linear(width, 2 * dim)
        self.heads = nn.Sequential(
            nn.Linear(dim + _CONTEXT, width), nn.Tanh(), nn.Linear(width, _HEADS)
        )
        self.jump_net = nn.Sequential(nn.Linear(dim + 4, width), nn.Tanh(), nn.Linear(width, dim))
        self.gain = nn.Parameter(torch.tensor(1.0))
        for last in (self.posterior_head, self.heads[-1], self.jump_net[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight, std=0.05)
            nn.init.zeros_(last.bias)
        bias = self.heads[-1].bias
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            bias.copy_(torch.tensor([-1.5, 1.0, -1.5, 0.0, -0.8, -4.0, 0.0]))
            self.posterior_head.bias[dim:] = -0.5

    @property
    def event_size(self) -> int:
        """D: readings that a padded series has after its first."""
        return self.signal_shape[0] - 1

    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Nothing: levels and times have their units already."""

    def posterior(self, visits: Visits) -> Independent:
        """q(ε | y₁ … y_n) of the visits that took place, batch `(B,)`, event `(dim,)`."""
        level, unseen = visits.level, visits.unseen.to(visits.level)
        before = torch.cat([level[:, :1], level[:, :-1]], 1)
        features = torch.stack(
            [
                (level - _CENTRE) / _SPREAD,
                level - before,
                visits.gaps,
                visits.since / 8,
                unseen,
                visits.repeated.to(level),
                visits.final.to(level),
                torch.ones_like(level),
            ],
            -1,
        )
        states, _ = self.recurrent(features)  # (B, T, width)
        last = (visits.mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        loc, free = self.posterior_head(states.gather(1, last)[:, 0]).chunk(2, -1)
        return diagonal_normal(loc, (-4 + F.softplus(free + 4)).exp(), 1)

    def prior(self, batch: int, like: Tensor) -> Independent:
        """N(0, I), batch `(batch,)`, event `(dim,)`."""
        zeros = like.new_zeros(batch, self.dim)
        return diagonal_normal(zeros, torch.ones_like(zeros), 1)

    def first_state(self, effects: Tensor, level: Tensor) -> Tensor:
        """z(t₁), `(..., B, dim)`, from ε `(..., B, dim)` and the first reading `(B,)`."""
        volume = level + self.log_first.exp() * effects[..., 0]
        return torch.cat([volume[..., None], effects[..., 1:]], -1)

    def reading(
        self, z: Tensor, last: Tensor, gap: Tensor, repeated: Tensor, final: Tensor, since: Tensor
    ) -> Reading:
        """p(y_k | z(t_k), y_k−1), in levels.

        Args:
            z: State at the visit, before its reading, `(..., dim)`.
            last: Reading before, broadcastable to `(...)`, as are all that follow.
            gap: Time since then.
            repeated: 1 where that one repeated its own predecessor.
            final: 1 where the visit is known to end the series.
            since: Time since the first visit.
        """
        volume = z[..., 0]
        unseen = (last <= 0).to(z)
        context = torch.broadcast_tensors(
            (last - _CENTRE) / _SPREAD,
            volume - last,
            gap.clamp(min=1e-2).log(),
            unseen,
            repeated,
            final,
            since / 8,
            volume,
        )[:-1]
        seen = torch.cat([(z[..., :1] - _CENTRE) / _SPREAD, z[..., 1:]], -1)
        heads = self.heads(torch.cat([seen, torch.stack(context, -1)], -1))
        scale, ratio, wide, new, repeat, vanish, shift = heads.unbind(-1)
        return Reading(
            volume + shift * final,
            scale.clamp(-6.0, 3.0).exp(),
            1 + ratio.clamp(-5.0, 3.0).exp(),
            wide,
            torch.stack([new - 2 * unseen, repeat, vanish], -1),
            last,
            0.0,
        )

    def jump(self, z: Tensor, last: Tensor, value: Tensor, gap: Tensor) -> Tensor:
        """State after a reading, `(..., dim)`.

        Args:
            z: State before it, `(..., dim)`.
            last: Reading before, broadcastable to `(...)`, as are all that follow.
            value: The reading.
            gap: Time between the two.
        """
        volume = z[..., 0]
        # All that a reading below the limit says of a level below it is that it may stand.
        innovation = torch.where(value > 0, value - volume, (-volume).clamp(max=0.0))
        change = ((value - last) / gap.clamp(min=0.25)).clamp(-3.0, 3.0)
        told = torch.stack([change, (value == last).to(z), (value <= 0).to(z)], -1)
        told = told.expand(*volume.shape, 3)
        seen = torch.cat([(z[..., :1] - _CENTRE) / _SPREAD, z[..., 1:]], -1)
        bounded = innovation[..., None].clamp(-3.0, 3.0)
        moved = self.jump_net(torch.cat([seen, bounded, told], -1))
        level = volume + self.gain * innovation
        return torch.cat([level[..., None], z[..., 1:] + moved[..., 1:]], -1)

    def run(self, effects: Tensor, visits: Visits) -> tuple[Tensor, Tensor]:
        """Log-likelihood of all readings after the first, and the state after the last.

        Args:
            effects: ε, `(..., B, dim)`.
            visits: Readings of B patients.

        Returns:
            Nats, `(..., B)`, summed over visits; and z after the last visit, `(..., B, dim)`.
        """
        gaps, since, level = visits.gaps, visits.since, visits.level
        z = self.first_state(effects, level[:, 0])
        states = []
        # Only what must be one visit after the other is in the loop: readings are scored after it.
        for k in range(1, int(visits.mask.any(0).sum())):
            before = self.ode(z, since[:, k] - gaps[:, k], since[:, k])
            after = self.jump(before, level[:, k - 1], level[:, k], gaps[:, k])
            z = torch.where(visits.mask[:, k, None], after, z)
            states.append(before)
        if not states:
            return torch.zeros_like(z[..., 0]), z
        before = torch.stack(states, -2)  # (..., B, T − 1, dim)
        now, then = slice(1, len(states) + 1), slice(0, len(states))
        reading = self.reading(
            before,
            level[:, then],
            gaps[:, now],
            visits.repeated[:, then].to(effects),
            visits.final[:, now].to(effects),
            since[:, now],
        )
        gained = torch.where(visits.mask[:, now], reading.log_prob(level[:, now]), 0.0)
        return gained.sum(-1), z

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """ELBO of log p(y₂ … y_n | y₁) from packed visits `(B, T, 4)`; `y` is not used."""
        visits = Visits.unpacked(x)
        posterior = self.posterior(visits)
        effects = draw(posterior, noise.normal((len(x), self.dim)))
        log_likelihood, _ = self.run(effects, visits)
        return LossTerms(log_likelihood, kl_divergence(posterior, self.prior(len(x), x)))
