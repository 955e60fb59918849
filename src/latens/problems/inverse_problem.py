"""An inverse problem: an operator and a noise model, which simulate and score."""

from torch import Tensor, nn
from torch.distributions import Distribution

from latens.distributions import draw
from latens.problems.noise import NoiseModel
from latens.problems.operator import Operator, require_event
from latens.types import Shape


class InverseProblem(nn.Module):
    """y ~ p(y | F(x)), with operator F and noise model p.

    | symbol | attribute | shape |
    |---|---|---|
    | x | – | `(..., *signal_shape)` |
    | F | `operator` | – |
    | y | – | `(..., *measurement_shape)` |
    | p | `noise` | – |

    Args:
        operator: Noiseless map F.
        noise: Distribution of a measurement around F(x).
    """

    def __init__(self, operator: Operator, noise: NoiseModel) -> None:
        super().__init__()
        self.operator = operator
        self.noise = noise

    @property
    def signal_shape(self) -> Shape:
        """Shape of one signal."""
        return self.operator.signal_shape

    @property
    def measurement_shape(self) -> Shape:
        """Shape of one measurement."""
        return self.operator.measurement_shape

    @property
    def noise_shape(self) -> Shape:
        """Shape of the standard normal noise behind one measurement; see `simulate`."""
        components = self.noise.components
        return (*self.measurement_shape, components) if components > 1 else self.measurement_shape

    def likelihood(self, x: Tensor) -> Distribution:
        """Distribution of the measurement of `x`.

        Args:
            x: Signal, `(..., *signal_shape)`.

        Returns:
            Distribution with batch shape `(...)` and event shape `measurement_shape`.

        Raises:
            ShapeError: If `x` does not fit the operator.
        """
        return self.noise(self.operator(x), len(self.measurement_shape))

    def simulate(self, x: Tensor, noise: Tensor) -> Tensor:
        """Measure a signal.

        Args:
            x: Signal, `(*batch, *signal_shape)`.
            noise: Standard normal noise, `(*sample_shape, *batch, *noise_shape)`.

        Returns:
            Measurements, `(*sample_shape, *batch, *measurement_shape)`.

        Raises:
            ShapeError: If `x` does not fit the operator, or `noise` the measurement.
        """
        return draw(self.likelihood(x), noise)

    def log_likelihood(self, y: Tensor, x: Tensor) -> Tensor:
        """Log-likelihood log p(y | x) of a measurement given a signal.

        Args:
            y: Measurement, `(..., *measurement_shape)`.
            x: Signal, `(..., *signal_shape)`; leading axes broadcast with those of `y`.

        Returns:
            Nats per measurement, `(...)`, summed over its elements, constants kept.

        Raises:
            ShapeError: If `y` or `x` does not fit the operator.
        """
        require_event("y", y, self.measurement_shape)
        return self.likelihood(x).log_prob(y)

    def residual(self, y: Tensor, x: Tensor) -> Tensor:
        """Standardised residual (y − E[y | x])/√Var[y | x], element by element.

        Args:
            y: Measurement, `(..., *measurement_shape)`.
            x: Signal, `(..., *signal_shape)`; leading axes broadcast with those of `y`.

        Returns:
            Dimensionless, `(..., *measurement_shape)`; of mean 0 and variance 1 at the true
            signal, whatever the noise model.

        Raises:
            ShapeError: If `y` or `x` does not fit the operator.
        """
        require_event("y", y, self.measurement_shape)
        return self.noise.standardise(y, self.operator(x))

    def chi2(self, y: Tensor, x: Tensor) -> Tensor:
        """Reduced misfit ‖Σ^{-1/2}(y − E[y | x])‖²/m with Σ = Var[y | x].

        Its expectation at the true signal is 1 for every noise model; its spread there is that
        of χ²/m for Gaussian noise alone, and wider for few photons.

        Args:
            y: Measurement, `(..., *measurement_shape)`.
            x: Signal, `(..., *signal_shape)`; leading axes broadcast with those of `y`.

        Returns:
            Dimensionless, `(...)`, mean over the m elements of a measurement.

        Raises:
            ShapeError: If `y` or `x` does not fit the operator.
        """
        axes = tuple(range(-len(self.measurement_shape), 0))
        return self.residual(y, x).square().mean(axes)
