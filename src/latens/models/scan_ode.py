"""Latent ODE of series of scans: what an encoder said of each visit, and how it moves on.

    s(t₁) = (z(t₁), u(t₁)) ~ N((a, 0), diag(b², 1))          a, b learned
    ds/dt = η f_θ(s),   dz_vol/dt = α(κ − z_vol) + η h_θ(s) where a latent means the log volume
    z_k ~ N(z(t_k), diag r²),   x_k ~ p(x | z_k)              scan k, by the encoder's own model
    vanished at t_k:  Φ((L − z_vol(t_k))/r_vol)               in place of what z_vol of scan k says
    q(s(t₁) | all visits) = N(m, diag c²)

    log p(x₁ … x_n) − Σ_k log p(x_k) ≥ E_q[Σ_k g_k(z(t_k))] − KL(q ‖ p(s(t₁)))

The data are the scans. The encoder's posterior q(z | x_k) = N(μ_k, diag v_k) is not their
likelihood, since it holds the prior N(0, I) that the encoder was trained with: n visits would
count it n times. What is left without it, p(x_k | z)/p(x_k) = q(z | x_k)/N(z; 0, I), is the
likelihood, of precision 1/v − 1 about μ/(1 − v). Averaged over z_k it is, for each latent,

    g(z) = log ∫ N(z′; z, r²) N(z′; μ, v)/N(z′; 0, 1) dz′
         = −½ log d − ((z − μ)² − v z² − r² μ²)/2d,   d = v + (1 − v) r²

of precision (1 − v)/d. A latent of which the encoder knows nothing, v = 1, μ = 0, says nothing; a
v above 1, which no posterior under N(0, 1) has, is taken for 1. p(x_k) is the encoder's marginal
of one scan: the bound says how many nats more probable the scans are as one series than each by
itself. It is one as far as q(z | x_k) is the encoder's exact posterior.

u are latents that no scan shows: what differs between subjects in how they change. With `timed`
the field sees the time since the first visit too, f_θ(s, t) and h_θ(s, t). m and c are those of
latents that stay as they are, later visits weighed by a share that is learned for every latent
(all of it for what does not change, none for what does), and what a recurrent network adds. Of a
vanished lesion they take z_vol for L, if the encoder says more.

| symbol | attribute | shape |
|---|---|---|
| f | `ode.field` | s (…, dim + hidden) → (…, dim + hidden) |
| a, b | `first_loc`, `first_scale` | (dim,) |
| r | `spread` | (dim,) |
| g_k | `gain` | (…, B, T, dim) |
| L | `limit` | () |
| q(s(t₁) ∣ …) | `posterior` | batch (B,), event (dim + hidden,) |

References:
    Rubanova, Chen, Duvenaud (2019), https://arxiv.org/abs/1907.03907;
    Dupont, Doucet, Teh (2019), Augmented neural ODEs, https://arxiv.org/abs/1904.01681.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from torch.nn import functional as F

from latens.distributions import NoiseStream, diagonal_normal, draw, log_below
from latens.errors import ConfigError
from latens.models.base import Model
from latens.nets.ode import GompertzField, Gradient, ResidualField, RowwiseODE
from latens.objectives import LossTerms
from latens.objectives.elbo import kl_divergence
from latens.problems import InverseProblem

_ONE = math.log(math.expm1(1.0))
"""Its softplus is 1."""


@dataclass(frozen=True, eq=False)
class EncodedVisits:
    """Encoded visits of B subjects, padded to T.

    Attributes:
        loc: Means of q, `(B, T, dim)`; 0 where padded.
        variance: Variances of q, `(B, T, dim)`; 1 where padded.
        since: Time since the first visit, `(B, T)`, in units of the usual gap.
        mask: Visits that took place, `(B, T)`, first in their row.
        censored: Visits whose volume was too small to be seen, `(B, T)`; only where the first
            latent means a volume.
    """

    loc: Tensor
    variance: Tensor
    since: Tensor
    mask: Tensor
    censored: Tensor

    def packed(self) -> Tensor:
        """All of it as one tensor, `(B, T, 2 dim + 3)`."""
        flags = (self.mask.to(self.loc), self.censored.to(self.loc))
        own = torch.stack([self.since, *flags], -1)
        return torch.cat([self.loc, self.variance, own], -1)

    @staticmethod
    def unpacked(packed: Tensor) -> "EncodedVisits":
        """Inverse of `packed`."""
        loc, variance = packed[..., :-3].chunk(2, -1)
        since, mask, censored = packed[..., -3:].unbind(-1)
        return EncodedVisits(loc, variance, since, mask > 0.5, censored > 0.5)


class ScanODE(Model):
    """Latent ODE over encoded visits.

    Args:
        visits: T, the padded length of the series that it is trained on.
        dim: Latents of the encoder.
        limit: What the first latent is below where a lesion is too small to be seen; it is a
            standardised log volume and gets Gompertz drift. None where no latent means a volume.
        hidden: Latents that no scan shows.
        width: Hidden units of the networks.
        steps: Steps of the solver between two visits.
        gradient: How gradients of the solution are taken.
        timed: Whether f and h see the time since the first visit.

    Raises:
        ConfigError: If there are fewer than two visits, no latent, or a negative number.
    """

    limit: Tensor

    def __init__(
        self,
        visits: int,
        dim: int,
        *,
        limit: float | None,
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
        super().__init__((visits, 2 * dim + 3), (visits, 2 * dim + 3))
        self.dim, self.hidden = dim, hidden
        size = dim + hidden
        self.aligned = limit is not None
        self.register_buffer("limit", torch.tensor(0.0 if limit is None else limit))
        if self.aligned:
            field: nn.Module = GompertzField(
                size, width, rate=0.1, plateau=1.0, residual=0.05, timed=timed
            )
        else:
            field = ResidualField(size, width, 0.05, timed=timed)
        self.ode = RowwiseODE(field, steps, gradient)
        self.log_spread = nn.Parameter(torch.full((dim,), -1.5))
        self.first_loc = nn.Parameter(torch.zeros(dim))
        self.log_first_scale = nn.Parameter(torch.zeros(dim))
        self.earliest = nn.Parameter(torch.zeros(dim))
        self.recurrent = nn.GRU(dim + 2, width, batch_first=True)
        self.head = nn.Linear(width, 2 * size)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def event_size(self) -> int:
        """D: latents of all visits of a padded series."""
        return self.signal_shape[0] * self.dim

    @torch.no_grad()
    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Begin with a and b² at the mean of the first visits and the variance of their draws:
        one step of expectation and maximisation from N(0, I).
        """
        first = EncodedVisits.unpacked(x[:, :1])
        loc = first.loc[:, 0]  # (B, dim)
        variance = loc.var(0, correction=0) + first.variance[:, 0].mean(0)
        self.first_loc.copy_(loc.mean(0))
        self.log_first_scale.copy_(0.5 * variance.log())

    @property
    def spread(self) -> Tensor:
        """r, `(dim,)`."""
        return self.log_spread.exp()

    @property
    def first_scale(self) -> Tensor:
        """b, `(dim,)`."""
        return self.log_first_scale.exp()

    def averaged(self, variance: Tensor) -> tuple[Tensor, Tensor]:
        """v, no larger than 1, and d = v + (1 − v) r², `(…, dim)` each."""
        variance = variance.clamp(max=1.0)
        return variance, variance + (1 - variance) * self.spread.square()

    def gain(self, z: Tensor, visits: EncodedVisits) -> Tensor:
        """g_k, nats that the scan of a visit gains by latents; of a vanished lesion that of its
        volume is log Φ.

        Args:
            z: Path of the latents, `(…, B, T, dim)`.
            visits: The visits.

        Returns:
            `(…, B, T, dim)`; without meaning where padded.
        """
        variance, d = self.averaged(visits.variance)
        moved = (z - visits.loc).square() - variance * z.square()
        found = -0.5 * (d.log() + (moved - (self.spread * visits.loc).square()) / d)
        if not self.aligned:
            return found
        below = log_below(self.limit, z[..., 0], self.spread[0])
        volume = torch.where(visits.censored, below, found[..., 0])
        return torch.cat([volume[..., None], found[..., 1:]], -1)

    def posterior(self, visits: EncodedVisits) -> Independent:
        """q(s(t₁) | visits), batch `(B,)`, event `(dim + hidden,)`."""
        loc = self._told(visits)
        variance, d = self.averaged(visits.variance)
        share = torch.ones_like(loc) * self.earliest.neg().sigmoid()  # (B, T, dim)
        share = torch.cat([torch.ones_like(share[:, :1]), share[:, 1:]], 1)
        share = torch.where(visits.mask[..., None], share, 0.0) / d
        known = self.first_scale.square().reciprocal()  # (dim,)
        total = known + (share * (1 - variance)).sum(1)  # (B, dim)
        middle = (known * self.first_loc + (share * loc).sum(1)) / total
        own = torch.stack([visits.since, visits.censored.to(loc)], -1)
        features = torch.cat([loc, own], -1)
        states, _ = self.recurrent(features)  # (B, T, width)
        last = (visits.mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        added, free = self.head(states.gather(1, last)[:, 0]).chunk(2, -1)
        scale = torch.cat([total.rsqrt(), total.new_ones(len(total), self.hidden)], 1)
        centre = torch.cat([middle, middle.new_zeros(len(middle), self.hidden)], 1) + added
        return diagonal_normal(centre, scale * F.softplus(free + _ONE), 1)

    def _told(self, visits: EncodedVisits) -> Tensor:
        """μ, `(B, T, dim)`, the first latent no larger than the limit where a lesion vanished."""
        if not self.aligned:
            return visits.loc
        volume = visits.loc[..., 0]
        lower = torch.where(visits.censored, torch.minimum(volume, self.limit), volume)
        return torch.cat([lower[..., None], visits.loc[..., 1:]], -1)

    def prior(self, batch: int, like: Tensor) -> Independent:
        """N((a, 0), diag(b², 1)), batch `(batch,)`, event `(dim + hidden,)`."""
        loc = torch.cat([self.first_loc, like.new_zeros(self.hidden)])
        scale = torch.cat([self.first_scale, like.new_ones(self.hidden)])
        return diagonal_normal(loc.expand(batch, -1), scale.expand(batch, -1), 1)

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
        """Bound on log p(x₁ … x_n) − Σ log p(x_k) of packed visits `(B, T, 2 dim + 3)`; `y` is
        not used.
        """
        visits = EncodedVisits.unpacked(x)
        posterior = self.posterior(visits)
        first = draw(posterior, noise.normal((len(x), self.dim + self.hidden)))
        path = self.path(first, visits.since)[..., : self.dim]  # (B, T, dim)
        nats = self.gain(path, visits).sum(-1)  # (B, T)
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
