"""Models and data small enough for tests; a new model is tested by being listed here."""

from collections.abc import Callable

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.models import CVAE, Direct, Latent, Model, UNet
from latens.nets import AffineFlow, Conv, ConvMap, Linear, SplineFlow
from latens.problems import GaussianBlur, GaussianNoise, InverseProblem

SHAPE = (1, 12, 12)

MODELS: dict[str, Callable[[], Model]] = {
    "cvae": lambda: CVAE(SHAPE, SHAPE, dim=2, architecture=ConvMap(4)),
    "cvae-vector": lambda: CVAE(
        SHAPE, SHAPE, dim=3, scale="per_image", architecture=Conv(4, features=8)
    ),
    "latent": lambda: Latent(SHAPE, SHAPE, dim=1, architecture=ConvMap(4)),
    "latent-pixel": lambda: Latent(
        SHAPE, SHAPE, dim=3, scale="per_pixel", architecture=Conv(4, features=8)
    ),
    "latent-linear": lambda: Latent(SHAPE, SHAPE, dim=3, architecture=Linear()),
    "latent-flow": lambda: Latent(
        SHAPE, SHAPE, dim=1, architecture=ConvMap(4), flow=AffineFlow(2, width=8)
    ),
    "latent-spline": lambda: Latent(
        SHAPE,
        SHAPE,
        dim=3,
        architecture=Conv(4, features=8),
        consistency=0.1,
        flow=SplineFlow(2, width=8, bins=4),
    ),
    "cvae-consistent": lambda: CVAE(SHAPE, SHAPE, dim=2, architecture=ConvMap(4), consistency=0.1),
    "direct": lambda: Direct(SHAPE, SHAPE, dim=2, architecture=ConvMap(4)),
    "unet": lambda: UNet(SHAPE, SHAPE, width=4),
    "unet-dropout": lambda: UNet(SHAPE, SHAPE, width=4, dropout=0.2, consistency=0.1),
}
REGRESSORS = [name for name in MODELS if name.startswith("unet")]
LATENT_MODELS = [name for name in MODELS if name not in REGRESSORS]
STAGES = [(name, stage) for name, make in MODELS.items() for stage in make().stages]


def make_model(name: str, seed: int = 0) -> Model:
    """A model with initial weights keyed by a seed, in units of `make_pairs`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS[name]()
    model.fit_units(*make_pairs(16))
    return model


def make_problem(noise: float = 0.1) -> InverseProblem:
    """Blur and noise."""
    return InverseProblem(GaussianBlur(SHAPE, 0.8), GaussianNoise(noise))


def make_pairs(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images with three degrees of freedom, and their measurements."""
    code = NoiseStream(seed, 0).normal((n, 3))
    axis = torch.linspace(-1, 1, SHAPE[-1])
    one = torch.ones_like(axis)
    images = torch.stack([torch.outer(one, one), torch.outer(axis, one), torch.outer(one, axis)])
    x = 2 + torch.einsum("nk,khw->nhw", code, images)[:, None]
    x = x + 0.1 * NoiseStream(seed, 1).normal(x.shape)
    return x, make_problem().simulate(x, NoiseStream(seed, 2).normal(x.shape))
