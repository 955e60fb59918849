"""Generative models of a signal and its measurement, one file each."""

from latens.models.base import LatentModel, Model
from latens.models.cvae import CVAE
from latens.models.direct import Direct
from latens.models.latent import Latent
from latens.models.regressor import UNet

__all__ = ["CVAE", "Direct", "Latent", "LatentModel", "Model", "UNet"]
