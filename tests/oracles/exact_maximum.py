"""Affine models at the maximum of their objectives, found by linear algebra instead of training.

With `latens.nets.Linear` both stages of `CVAE` and `Latent` are solved without a step size: the
representation is probabilistic PCA (Tipping and Bishop 1999), whose maximum the leading
eigenvectors give, and the amortised Gaussian is a least-squares regression of the latents on y.
What is left between such a model and the exact posterior is the number of pairs, and inference.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from latens.distributions import NoiseStream, draw
from latens.models import CVAE, Latent
from oracles.few_modes import FewModes

UNITS, REPRESENTATION, REGRESSION = 20, 21, 22
"""Purposes in the keys of noise."""
CHUNK = 512
ITERATIONS = 4


@torch.no_grad()
def solve(
    model: CVAE | Latent, field: FewModes, pairs: int, seed: int, *, known_decoder: bool = False
) -> None:
    """Set the weights of an affine model to the maximum of its objective over sampled pairs.

    Args:
        model: With the architecture `Linear`; changed in place.
        field: Where the pairs come from.
        pairs: Number of pairs of the regression; the representation uses an eighth of it in each
            of its iterations. None is seen twice.
        seed: Key of the pairs.
        known_decoder: Take p(x | z) from the field instead of from pairs.
    """
    model.fit_units(*field.pairs(256, NoiseStream(seed, UNITS)))
    if known_decoder:
        _truth(model, field)
    else:
        _representation(model, field, pairs // 8, seed)
    _regression(model, field, pairs, seed)
    model.eval()


def _truth(model: CVAE | Latent, field: FewModes) -> None:
    """The decoder that made the field, in the units of the model."""
    units, trunk = model.signal_units, model.decoder_net.trunk.linear
    modes = (field.modes.flatten(1) * field.eigenvalues.sqrt()[:, None]).mT  # (D, dim)
    trunk.weight.copy_(modes / units.scale)
    trunk.bias.fill_(-units.loc / units.scale)
    model.decoder_net.scale.set(field.floor / units.scale)
    if isinstance(model, Latent):
        dim = model.dim
        _set_encoder(model, torch.zeros(0, dim), torch.zeros(dim), torch.ones(dim))


def _representation(model: CVAE | Latent, field: FewModes, pairs: int, seed: int) -> None:
    """Probabilistic PCA by subspace iteration; for `Latent`, with its encoder."""
    size, dim = model.event_size, model.dim
    basis = torch.linalg.qr(torch.randn(size, dim)).Q
    for iteration in range(ITERATIONS):
        total, square, image = torch.zeros(size), torch.zeros(()), torch.zeros(size, dim)
        count = 0
        for x, _ in _pairs(field, pairs, seed, REPRESENTATION, iteration):
            flat = model.signal_units(x).flatten(1)  # (n, D)
            total, square = total + flat.sum(0), square + flat.square().sum()
            image, count = image + flat.mT @ (flat @ basis), count + len(flat)
        mean = total / count
        image = image / count - mean[:, None] * (mean @ basis)  # covariance @ basis
        # Rayleigh-Ritz: eigenvalues of the covariance within the span
        values, vectors = torch.linalg.eigh(basis.mT @ image)
        directions = basis @ vectors
        rest = (square / count - mean.square().sum() - values.sum()) / (size - dim)
        basis = torch.linalg.qr(image).Q
    trunk, head = model.decoder_net.trunk.linear, model.decoder_net.scale
    trunk.weight.copy_(directions * (values - rest).clamp_min(0).sqrt())
    trunk.bias.copy_(mean)
    head.set(rest.sqrt())
    if isinstance(model, Latent):
        _set_encoder(model, torch.zeros(0, dim), torch.zeros(dim), torch.ones(dim))


def _set_encoder(model: CVAE | Latent, weights: Tensor, bias: Tensor, variance: Tensor) -> None:
    """q(z | x, y), the posterior under the decoder and a prior N(weightsᵀ y + bias, variance)."""
    trunk = model.decoder_net.trunk.linear
    rest = model.decoder_net.scale.value.square()
    precision = 1 / variance + trunk.weight.square().sum(0) / rest
    project = (trunk.weight / (precision * rest)).mT  # (dim, D)
    net = model.encoder_net
    root = net.head.in_features**0.5
    net.head.weight.copy_(torch.cat([project, weights.mT / (precision * variance)[:, None]], 1))
    net.head.weight.mul_(root)
    net.head.bias.copy_(bias / (precision * variance) - project @ trunk.bias)
    net.log_scale.copy_(-precision.log() / 2)


def _regression(model: CVAE | Latent, field: FewModes, pairs: int, seed: int) -> None:
    """The affine Gaussian in y that the last round maximises over.

    `Latent`: q(z | y) from draws of the model's own joint distribution, a regression of z on y.
    `CVAE`: p(z | y) such that x | y ~ N(W μ(y) + b, W S Wᵀ + σ²I) is the most likely: along each
    column w of W a regression of w·(x − b)/‖w‖² on y, whose residual variance is S + σ²/‖w‖².
    The encoder follows from it.
    """
    amortised = model.prior_net if isinstance(model, CVAE) else model.amortised_net
    trunk = model.decoder_net.trunk.linear
    lengths = trunk.weight.square().sum(0)
    width = amortised.head.in_features + 1
    gram = torch.zeros(width, width, dtype=torch.float64)
    cross = torch.zeros(width, model.dim, dtype=torch.float64)
    square = torch.zeros(model.dim, dtype=torch.float64)
    count = 0
    for chunk, (x, y) in enumerate(_pairs(field, pairs, seed, REGRESSION, 0)):
        if isinstance(model, CVAE):
            z = (model.signal_units(x).flatten(1) - trunk.bias) @ (trunk.weight / lengths)
        else:
            noise = NoiseStream(seed, REGRESSION, 1, chunk)
            z = noise.normal((len(x), model.dim))
            x = draw(model.decode(z, y), noise.normal(tuple(x.shape)))
            y = field.problem.simulate(x, noise.normal(tuple(y.shape)))
        inputs = model.seen(y).flatten(1)
        inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)  # (n, width)
        gram += inputs.mT @ inputs
        cross += inputs.mT @ z
        square += z.square().sum(0)
        count += len(z)
    solution = torch.linalg.solve(gram, cross)  # (width, dim)
    fitted = (square - (cross * solution).sum(0)) / count
    # Unbiased residual, and the error of the regression at a measurement it has not seen.
    variance = fitted * count / (count - width) * (1 + width / count)
    weights, bias = solution[:-1].float(), solution[-1].float()
    if isinstance(model, CVAE):
        rest = model.decoder_net.scale.value.square()
        variance = variance.float() - rest / lengths
        _set_encoder(model, weights, bias, variance)
    amortised.head.weight.copy_(weights.mT * amortised.head.in_features**0.5)
    amortised.head.bias.copy_(bias)
    amortised.log_scale.copy_(variance.log() / 2)


def _pairs(
    field: FewModes, pairs: int, seed: int, purpose: int, round_: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fresh pairs, chunk by chunk."""
    for chunk in range(pairs // CHUNK):
        yield field.pairs(CHUNK, NoiseStream(seed, purpose, 0, round_, chunk))
