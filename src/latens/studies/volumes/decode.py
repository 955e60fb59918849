"""Decoded forecasts: what a scan to come may look like, as NIfTI at the place of the last scan."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.data.latent_series import LatentSeries
from latens.data.volumes import Volume, write_volume
from latens.errors import ConfigError, DataError
from latens.inference.forecasting import Forecaster, ScanODEForecaster
from latens.models.volume_vae import VolumeVAE
from latens.studies.volumes.encode import trained
from latens.types import PathLike

DRAWS = 33
"""Draws of the latents that are decoded for a mean and a standard deviation."""


@dataclass(frozen=True)
class Decoder:
    """The model that encoded some scans, to decode what is forecast from them.

    Attributes:
        model: The model.
        scans: The encoded scans.
    """

    model: VolumeVAE
    scans: LatentSeries

    @staticmethod
    def of(run: PathLike, seed: int, forecaster: str, scans: LatentSeries | None) -> "Decoder":
        """The model of a run of exp1, exp2 or exp3.

        Args:
            run: Run folder.
            seed: Which of its trainings.
            forecaster: Name of the forecaster.
            scans: The encoded scans.

        Raises:
            ConfigError: If no latents are forecast, or they are those of another fit.
        """
        if scans is None or forecaster != "scan_ode":
            raise ConfigError(
                "decode",
                "latents of scans, and scan_ode, which forecasts them",
                f"volumes by {forecaster}" if scans is None else forecaster,
                "Give a file of `latens encode`, and leave --forecaster out.",
            )
        _, model, fit = trained(run, seed)
        if fit != scans.encoder:
            raise ConfigError(
                "decode",
                f"the run and seed that encoded the scans (fit {scans.encoder[:12]})",
                f"fit {fit[:12]}",
                "Give that run, or encode the scans again with this one.",
            )
        return Decoder(model, scans)

    def check_folder(self, folder: Path) -> None:
        """Raise if files would be written over."""
        if folder.exists():
            raise DataError(
                "out", "a name whose folder does not exist yet", str(folder), "Choose another."
            )

    @torch.no_grad()
    def write(
        self, forecaster: Forecaster, series: VolumeSeries, horizons: list[float], place: Path
    ) -> int:
        """Mean and standard deviation of every modality, patient and horizon; counts the files.

        The standard deviation is that of a scan to come: of the path of the latents and of the
        members, of how scans scatter about that path (r), and of the decoder's own σ. Files have
        the affine, the axes and the space of the patient's last scan.
        """
        assert isinstance(forecaster, ScanODEForecaster)
        names = file_names(series.patients)
        for b, patient in enumerate(series.patients):
            own = series.take([b])
            times = own.last_times[:, None] + torch.tensor(horizons, dtype=torch.float64)
            z = forecaster.scan_latents(own, times, [b], 0, DRAWS)[:, 0]  # (M, H, dim)
            last = self.scans.rows(patient)[int(own.visits[0]) - 1]
            for h, horizon in enumerate(horizons):
                mean, std = decoded_moments(self.model, z[:, h])
                for c, channel in enumerate(self.scans.channels):
                    stem = f"{names[b]}_{horizon:g}_{channel}"
                    self._write(last, mean[c], place / f"{stem}_mean.nii.gz")
                    self._write(last, std[c], place / f"{stem}_std.nii.gz")
        return 2 * len(series) * len(horizons) * len(self.scans.channels)

    def _write(self, row: int, values: Tensor, path: Path) -> None:
        array, affine = values.numpy(), self.scans.affines[row].numpy()
        place = Volume(array, affine, self.scans.axes[row], self.scans.codes[row], "float32")
        write_volume(path, array, affine, place)


@torch.no_grad()
def decoded_moments(model: VolumeVAE, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a scan whose latents have these draws.

    Args:
        model: The model.
        z: Draws, `(M, dim)`, M ≥ 2.

    Returns:
        `(C, D, H, W)` each, on the CPU; the standard deviation is that of the draws and of the
        decoder's own σ together.
    """
    device = next(model.parameters()).device
    first = second = own = torch.zeros(model.signal_shape)
    for code in z.float().split(4):
        decoded = model.decode(code.to(device))
        mean = decoded.mean.cpu()
        first = first + mean.sum(0) / len(z)
        second = second + mean.square().sum(0) / len(z)
        own = own + decoded.variance.cpu().sum(0) / len(z)
    spread = (second - first.square()).clamp(min=0) * len(z) / (len(z) - 1)
    return first, (spread + own).sqrt()


def file_names(patients: tuple[str, ...]) -> list[str]:
    """Names of patients that every file system takes, each once."""
    plain = [re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip(".-") or "patient" for name in patients]
    found: list[str] = []
    for name in plain:
        numbers = itertools.count(len(found))
        own = name
        while own in found or (own != name and own in plain):
            own = f"{name}-{next(numbers)}"
        found.append(own)
    return found
