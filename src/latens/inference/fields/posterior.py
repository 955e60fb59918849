"""Posterior of a coefficient field, known through draws of its latents."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.distributions import Purpose, draw, row_noise
from latens.inference.estimates import Draws, Posterior
from latens.inference.fields.target import FieldTarget
from latens.inference.resampling import draw_from_pool
from latens.store import Status


class FieldPosterior(Posterior):
    """w ~ p̂(w | y), then a ~ p(a | w, y), the model's own errors included.

    Args:
        target: Density of the latents.
        pool: Exchangeable positions of each measurement, B tensors `(n, dim)`.

    Attributes:
        target, pool: As given.
    """

    def __init__(
        self,
        target: FieldTarget,
        pool: Sequence[Tensor],
        keys: Sequence[int],
        seed: int,
        status: Status,
        diagnostics: dict[str, float],
    ) -> None:
        super().__init__(
            keys, seed, includes_decoder_spread=True, status=status, diagnostics=diagnostics
        )
        self.target, self.pool = target, list(pool)

    def positions(self, count: int) -> Tensor:
        """Draws without replacement, `(count, B, dim)`.

        Raises:
            ConfigError: If the pool of a measurement is smaller.
        """
        return draw_from_pool(self.pool, self.keys, self.seed, count)

    @torch.no_grad()
    def log_density(self, v: Tensor) -> Tensor:
        """Log-density that positions were drawn from, up to a constant per measurement.

        Args:
            v: `(B, S, dim)`.

        Returns:
            Nats, `(B, S)`; here that of the target.
        """
        return self.target.of_positions(v)

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        """Draws of a with the moments of p(a | w, y)."""
        v = self.positions(count)
        w, model = self.target.latents(v), self.target.model
        decoded = model.decode(w)
        errors = self.target.errors
        if errors is None:
            noise = self.noise(Purpose.DECODER, count, model.signal_shape, self.target.y)
            return Draws(draw(decoded, noise), decoded.mean, decoded.variance)
        rows = self.pairs(count)
        if model.values == "two-valued":
            low, high = model.classes
            share = torch.special.ndtr(self.noise(Purpose.DECODER, count, (), self.target.y))
            above = (decoded.mean - low) / (high - low) > errors.thresholds(
                rows, share, high - low
            )
            values = torch.where(above, high, low)
            return Draws(values, decoded.mean, decoded.variance)
        innovation = self.innovation(w)
        scale = self.target.scales(v)
        replicate = self.noise(
            Purpose.MEASUREMENT, count, (self.target.predict.size,), self.target.y
        )
        values = decoded.mean + errors.corrections(innovation, scale, rows, replicate)
        shift, variance = errors.expected(innovation, scale)
        return Draws(values, decoded.mean + shift, variance)

    def pairs(self, count: int) -> Tensor:
        """Number of the held-out pair whose errors a draw carries, `(count, B)`."""
        assert self.target.errors is not None
        picked = self.noise(Purpose.MEMBER, count, (), self.target.y)
        known = len(self.target.errors.field)
        return (torch.special.ndtr(picked) * known).long().clamp(max=known - 1)

    def innovation(self, w: Tensor) -> Tensor:
        """y − G(w) of `(count, B, dim)`, `(count, B, m)`."""
        predicted = self.target.predict(w.flatten(0, 1)).unflatten(0, w.shape[:2])
        return self.target.y - predicted

    @torch.no_grad()
    def replicates(self, count: int) -> Tensor:
        """Readings that the posterior foretells, `(count, B, m)`: G(w) + e + n."""
        v = self.positions(count)
        w = self.target.latents(v)
        predicted = self.target.predict(w.flatten(0, 1)).unflatten(0, w.shape[:2])
        return predicted + self._disturbances(v)

    def _disturbances(self, v: Tensor) -> Tensor:
        """e + n of positions `(count, B, dim)`, `(count, B, m)`."""
        count, size = len(v), self.target.predict.size
        noise = self.noise(Purpose.REPLICATE, count, (size,), self.target.y)
        made = self.target.scales(v)[..., None] * noise
        errors = self.target.errors
        return made if errors is None else made + errors.readings[self.pairs(count)]

    @torch.no_grad()
    def misfit_p_value(self, count: int = 199) -> Tensor:
        """Do the readings look like those that the posterior foretells?

        For every draw the misfit of y, of log-density log N(y − G(w); ē, C + σ² I), is compared
        with that of readings G(w) + e + n made from the same draw. The posterior has seen y, so
        that values are too large rather than too small: few fields of the family are doubted.

        Args:
            count: Comparisons, at least; small pools are gone through several times.

        Returns:
            Share of comparisons in which the readings made fit as badly or worse, y counted among
            them, `(B,)`, at least 1/(count + 1).

        References:
            Gelman, Meng, Stern (1996), Posterior predictive assessment of model fitness via
            realized discrepancies, https://www.jstor.org/stable/24306036
        """
        v = self.positions(min(count, *(len(pool) for pool in self.pool)))
        times = -(-count // len(v))
        scale = self.target.scales(v)
        measured = self.target.misfit(self.innovation(self.target.latents(v)), scale)
        made = self.target.misfit(
            self._disturbances(v.repeat(times, 1, 1)), scale.repeat(times, 1)
        )
        worse = made.unflatten(0, (times, -1)) >= measured
        return (1 + worse.sum((0, 1))) / (1 + worse[:, :, 0].numel())


class GaussianPositions(FieldPosterior):
    """Draws of a Gaussian in the coordinates of the target.

    Args:
        mode: Its mean, `(B, dim)`.
        root: R with R Rᵀ its covariance, `(B, dim, dim)`.
        count: Number of draws.
    """

    def __init__(
        self,
        target: FieldTarget,
        mode: Tensor,
        root: Tensor,
        count: int,
        keys: Sequence[int],
        seed: int,
        status: Status,
        diagnostics: dict[str, float],
    ) -> None:
        self.mode, self.root = mode, root
        shape = (count, target.dim)
        noise = row_noise((seed, Purpose.LATENT), keys, shape, mode.dtype, mode.device)
        pool = mode + torch.einsum("bij,mbj->mbi", root, noise)  # (count, B, dim)
        super().__init__(target, pool.unbind(1), keys, seed, status, diagnostics)

    def log_density(self, v: Tensor) -> Tensor:
        """Log-density of the Gaussian, `(B, S)`."""
        offset = (v - self.mode[:, None]).mT  # (B, dim, S)
        return -0.5 * torch.linalg.solve(self.root, offset).square().sum(1)
