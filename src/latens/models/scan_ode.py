"""Latent ODE of series of scans: what an encoder said of each visit, and how it moves on.

    s(t₁) = (z(t₁), u(t₁)) ~ N(0, I)            the prior of the encoder's latents
    ds/dt = η f_θ(s),   dz_vol/dt = α(κ − z_vol) + η h_θ(s) where a latent means the log volume
    μ_k ~ N(z(t_k), diag(v_k + r²))             q(z | scan k) = N(μ_k, diag v_k)
    q(s(t₁) | all visits) = N(m, diag c²)

    log p(μ₁ … μ_n) ≥ E_q[Σ_k log p(μ_k | s(t₁))] − KL(q ‖ N(0, I))

A visit counts by what its encoder was sure of. u are latents that no scan shows: what differs
between subjects in how they change. With `timed` the field sees the time since the first visit
too, f_θ(s, t) and h_θ(s, t). m is a mean of the visits, weighed by their precision, between that
of all visits (of what does not change) and the first (of what does), learned for every latent,
and what a recurrent network adds.

| symbol | attribute | shape |
|---|---|---|
| f | `ode.field` | s (…, dim + hidden) → (…, dim + hidden) |
| r | `spread` | (dim,) |
| q(s(t₁) ∣ …) | `posterior` | batch (B,), event (dim + hidden,) |

References:
    Rubanova, Chen, Duvenaud (2019), https://arxiv.org/abs/1907.03907;
    Dupont, Doucet, Teh (2019), Augmented neural ODEs, https://arxiv.org/abs/1904.01681.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from torch.nn import functional as F

from latens.distributions import NoiseStream, diagonal_normal, draw
from latens.errors import ConfigError
from latens.models.base import Model
from latens.nets.ode import GompertzField, Gradient, ResidualField, RowwiseODE
from latens.objectives import LossTerms
from latens.objectives.elbo import kl_divergence
from latens.problems import InverseProblem


@dataclass(frozen=True, eq=False)
class EncodedVisits:
    """Encoded visits of B subjects, padded to T.

    Attributes:
        loc: Means of q, `(B, T, dim)`; 0 where padded.
        variance: Variances of q, `(B, T, dim)`; 1 where padded.
        since: Time since the first visit, `(B, T)`, in units of the usual gap.
        mask: Visits that took place, `(B, T)`, first in their row.
    """

    loc: Tensor
    variance: Tensor
    since: Tensor
    mask: Tensor

    def packed(self) -> Tensor:
        """All of it as one tensor, `(B, T, 2 dim + 2)`."""
        own = torch.stack([self.since, self.mask.to(self.loc)], -1)
        return torch.cat([self.loc, self.variance, own], -1)

    @staticmethod
    def unpacked(packed: Tensor) -> "EncodedVisits":
        """Inverse of `packed`."""
        loc, variance = packed[..., :-2].chunk(2, -1)
        return EncodedVisits(loc, variance, packed[..., -2], packed[..., -1] > 0.5)


class ScanODE(Model):
    """Latent ODE over encoded visits.

    Args:
        visits: T, the padded length of the series that it is trained on.
        dim: Latents of the encoder.
        aligned: Whether the first latent is a standardised log volume, which gets Gompertz drift.
        hidden: Latents that no scan shows.
        width: Hidden units of the networks.
        steps: Steps of the solver between two visits.
        gradient: How gradients of the solution are taken.
        timed: Whether f and h see the time since the first visit.

    Raises:
        ConfigError: If there are fewer than two visits, no latent, or a negative number.
    """

    def __init__(
        self,
        visits: int,
        dim: int,
        *,
        aligned: bool,
        hidden: int = 4,
        width: int = 32,
        steps: int = 1,
        gradient: Gradient = "backprop",
        timed: bool = False,
    ) -> None:
        if visits < 2 or dim < 1 or hidden < 0:
            raise ConfigError(
                "visits, dim, hidden",
                "2 visits or more, a latent or more, none or more hidden ones",
                (visits, dim, hidden),
                "Use for example 4 hidden ones.",
            )
        super().__init__((visits, 2 * dim + 2), (visits, 2 * dim + 2))
        self.dim, self.hidden = dim, hidden
        size = dim + hidden
        if aligned:
            field: nn.Module = GompertzField(
                size, width, rate=0.1, plateau=1.0, residual=0.05, timed=timed
            )
        else:
            field = ResidualField(size, width, 0.05, timed=timed)
        self.ode = RowwiseODE(field, steps, gradient)
        self.log_spread = nn.Parameter(torch.full((dim,), -1.5))
        self.earliest = nn.Parameter(torch.zeros(dim))
        self.recurrent = nn.GRU(dim + 1, width, batch_first=True)
        self.head = nn.Linear(width, 2 * size)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def event_size(self) -> int:
        """D: latents of all visits of a padded series."""
        return self.signal_shape[0] * self.dim

    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Nothing: latents are in the units of their prior."""

    @property
    def spread(self) -> Tensor:
        """r, `(dim,)`."""
        return self.log_spread.exp()

    def reading_variance(self, variance: Tensor) -> Tensor:
        """v + r², `(…, dim)`."""
        return variance + self.spread.square()

    def posterior(self, visits: EncodedVisits) -> Independent:
        """q(s(t₁) | visits), batch `(B,)`, event `(dim + hidden,)`."""
        mask = visits.mask[..., None].to(visits.loc)  # (B, T, 1)
        precision = mask / self.reading_variance(visits.variance)
        total = precision.sum(1)  # (B, dim)
        whole = (precision * visits.loc).sum(1) / total
        share = self.earliest.sigmoid()
        middle = share * visits.loc[:, 0] + (1 - share) * whole
        features = torch.cat([visits.loc, visits.since[..., None]], -1)
        states, _ = self.recurrent(features)  # (B, T, width)
        last = (visits.mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        added, free = self.head(states.gather(1, last)[:, 0]).chunk(2, -1)
        known = torch.cat([(1 + total).rsqrt(), total.new_ones(len(total), self.hidden)], 1)
        loc = torch.cat([middle, middle.new_zeros(len(middle), self.hidden)], 1) + added
        return diagonal_normal(loc, known * F.softplus(free + 0.54), 1)  # softplus(.54) = 1

    def prior(self, batch: int, like: Tensor) -> Independent:
        """N(0, I), batch `(batch,)`, event `(dim + hidden,)`."""
        zeros = like.new_zeros(batch, self.dim + self.hidden)
        return diagonal_normal(zeros, torch.ones_like(zeros), 1)

    def path(self, first: Tensor, since: Tensor) -> Tensor:
        """s at increasing times, `(…, B, T, dim + hidden)`.

        Args:
            first: s(t₁), `(…, B, dim + hidden)`.
            since: Times since the first visit, `(B, T)`, increasing where they count.
        """
        state, now, found = first, torch.zeros_like(since[:, 0]), []
        for later in since.unbind(1):
            state = self.ode(state, now, torch.maximum(later, now))
            now = torch.maximum(later, now)
            found.append(state)
        return torch.stack(found, -2)

    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """Evidence bound of packed visits `(B, T, 2 dim + 2)`; `y` is not used."""
        visits = EncodedVisits.unpacked(x)
        posterior = self.posterior(visits)
        first = draw(posterior, noise.normal((len(x), self.dim + self.hidden)))
        path = self.path(first, visits.since)[..., : self.dim]  # (B, T, dim)
        scale = self.reading_variance(visits.variance).sqrt()
        nats = diagonal_normal(path, scale, 1).log_prob(visits.loc)  # (B, T)
        gained = torch.where(visits.mask, nats, 0.0).sum(1)
        return LossTerms(gained, kl_divergence(posterior, self.prior(len(x), x)))

    def halving_error(self, first: Tensor, since: Tensor) -> Tensor:
        """Change of the state if steps are halved, summed over the stretches of a path, `(…, B)`.

        Args:
            first, since: As in `path`.
        """
        path = self.path(first, since)
        starts = torch.cat([first[..., None, :], path[..., :-1, :]], -2)
        until = torch.cummax(since, 1).values
        before = torch.cat([torch.zeros_like(until[:, :1]), until[:, :-1]], 1)
        return self.ode.halving_error(starts, before, until).sum(-1)
