"""Readings by a network fitted to what some fixed sensors read of fields.

    G(w) = ȳ + k(tanh w, w) X,    k a network of a few layers and 1,    w ~ q(w | a)

Where sensors do not read the decoded solution, as fluxes through a boundary do not (they are
products of the coefficient with a derivative of the solution), the alternative is a solve for
every gradient. Such a network takes seconds to fit and microseconds to ask. What it misses is
among the held-out errors, as with any prediction.

k is trained on the principal scores of the readings; then X is solved for by least squares with
the ridge that fits the last fields best.
"""

import torch
from torch import Tensor, nn

from latens.distributions import NoiseStream, Purpose, draw
from latens.errors import DataError
from latens.inference.fields.fitting import descend, layers
from latens.inference.fields.sensors import Linear
from latens.models.igno import IGNO
from latens.models.last_layers import RIDGES

SCORES = 96
"""Largest number of principal scores that k is trained on."""
_SOME = 400
"""Readings from which principal directions are taken; there may be thousands of sensors."""
_HELD = 0.15
_BATCH = 256


class FittedSensors(nn.Module):
    """Prediction of readings; see `fit_sensors`.

    Args:
        dim: Number of latents.
        size: m.
        width: Functions of k.
    """

    mixing: Tensor
    offset: Tensor

    def __init__(self, dim: int, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.hidden = layers([2 * dim, width, width, width])
        self.register_buffer("mixing", torch.zeros(width + 1, size))
        self.register_buffer("offset", torch.zeros(size))

    def features(self, w: Tensor) -> Tensor:
        """k, `(C, width + 1)`, of latents `(C, dim)`."""
        k = self.hidden(torch.cat([torch.tanh(w), w], -1))
        return torch.cat([k, torch.ones_like(k[..., :1])], -1)

    @property
    def linear(self) -> Linear:
        """As a linear map of k."""
        return Linear(self.features, self.mixing, self.offset)

    def forward(self, w: Tensor) -> Tensor:
        """Readings `(C, m)`."""
        return self.linear(w)


def fit_sensors(
    model: IGNO,
    fields: Tensor,
    readings: Tensor,
    seed: int = 0,
    *,
    width: int = 128,
    steps: int = 4000,
) -> FittedSensors:
    """Fit a network to readings of fields.

    Args:
        model: Trained model.
        fields: a, `(n, *signal_shape)`.
        readings: F(a) without noise, `(n, m)`.
        seed: Key of batches and of draws of q(w | a).
        width: Functions of k.
        steps: Steps of Adam.

    Raises:
        DataError: If there are fewer than 40 fields.
    """
    count, size = readings.shape
    if count < 40:
        raise DataError("fields", "40 fields or more", count, "Use the training pairs.")
    stream = NoiseStream(seed, Purpose.LATENT, -1)
    with torch.no_grad():
        posterior = model.encoder(fields)
        loc, scale = posterior.mean.float(), posterior.stddev.float()
        offset = readings.mean(0)
        centred = (readings - offset).double()
        axes = torch.linalg.svd(centred[:_SOME], full_matrices=False)[2][:SCORES]  # (r, m)
        scores = (centred @ axes.mT).float()
        scores = scores / scores.square().sum(1).mean().sqrt()
    kept = count - round(_HELD * count)
    net = FittedSensors(model.dim, size, width)
    head = layers([width + 1, scores.shape[1]])[0]  # the linear map alone

    def loss() -> Tensor:
        rows = (stream.uniform((_BATCH,)) * kept).long().clamp(max=kept - 1)
        w = loc[rows] + scale[rows] * stream.normal((_BATCH, model.dim))
        return (head(net.features(w)) - scores[rows]).square().sum(1).mean()

    descend([*net.parameters(), *head.parameters()], loss, steps, 2e-3)
    net = net.double().requires_grad_(False)
    w = draw(posterior, stream.normal((count, model.dim), fields.dtype)).double()
    net.offset.copy_(offset)
    net.mixing.copy_(_solved(net.features(w), centred, kept))
    return net.to(fields.dtype)


def _solved(k: Tensor, readings: Tensor, kept: int) -> Tensor:
    """Ridge solution X of the first `kept` rows that fits the others best."""
    normal, right = k[:kept].mT @ k[:kept], k[:kept].mT @ readings[:kept]
    unit = normal.diagonal().mean() * torch.eye(len(normal), dtype=k.dtype)
    solutions = [torch.linalg.solve(normal + ridge * unit, right) for ridge in RIDGES]
    errors = [(k[kept:] @ x - readings[kept:]).square().mean() for x in solutions]
    return solutions[int(torch.stack(errors).argmin())]
