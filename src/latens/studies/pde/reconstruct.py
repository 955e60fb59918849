"""`latens reconstruct RUN sensors.csv`: the field behind readings, with its uncertainty."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latens.errors import ConfigError, DataError
from latens.inference import DEFAULT_DRAWS
from latens.inference.fields import (
    FieldChains,
    FieldImportance,
    FieldLaplace,
    FieldMAP,
    FieldPosterior,
    WeightedPosterior,
)
from latens.inference.fields.posterior import GaussianPositions
from latens.inference.fields.target import NoiseLevel
from latens.inference.samplers import HMC
from latens.models.igno import IGNO
from latens.reporting.pde_figures import closer_figure, field_figure
from latens.reporting.rendering import figure_pdf, figure_svg
from latens.store import (
    RunFolder,
    content_hash,
    new_folder,
    write_array,
    write_bytes,
    write_json,
)
from latens.store.hdf5 import write_hdf5
from latens.studies.configure import construct
from latens.studies.pde.fit import trained
from latens.studies.pde.invert import LEVEL, MAX_STEPS, MISFIT_LEVEL, fill_pools, instrument
from latens.studies.pde.outputs import GALLERY, MANY, described
from latens.studies.pde.run import fit_identity
from latens.studies.pde.study import Pde
from latens.studies.pde.systems import EITSystem
from latens.training import one_thread

FILES = ("mean", "std", "map", "lower", "upper", "draws")
"""Arrays that are saved as npy; the HDF5 file holds all."""
HDF5 = "posterior.h5"

UNKNOWN_NOISE = 1.5
"""Standard deviation of log σ where no noise level is given, around 1 % of the readings."""
FAR, LOUD = 2.0, 0.2
"""σ that is doubted: prior standard deviations from its centre, share of the readings."""


def reconstruct_field(options: Namespace) -> int:
    """Invert a table of readings; returns the exit code.

    Raises:
        DataError: If the file is no table of readings, or a reading is not finite or repeated.
        ConfigError: If a sensor is outside the domain, repeated, or no sensor at all.
    """
    for name in ("n", "solver"):
        if getattr(options, name) is not None:
            raise ConfigError(name, "nothing, for a run of `pde`", getattr(options, name), "Drop.")
    run = RunFolder.open(options.run)
    config = run.description["config"]
    study = construct(Pde, config)
    folder = run.fit(content_hash(fit_identity(config)))
    file = Path(options.file)
    out = Path(options.out) if options.out else file.with_name(file.stem)
    if out.exists():
        raise DataError(
            "out", "a folder that does not exist yet", str(out), "Choose another with --out."
        )
    sensors, y = read_readings(file, study)
    level = noise_level(y, options.sigma, options.snr)
    with one_thread():
        model = trained(study, folder)
        arrays, numbers = invert_readings(study, model, sensors, y, level, options.level or LEVEL)
    with new_folder(out) as made:
        write_results(made, arrays, sensors)
        write_json(made / "reconstruction.json", {"run": str(options.run), **numbers})
    print(f"{len(y[0])} readings, σ = {numbers['sigma']:.3g}")
    print(f"solver check: Pareto k̂ {numbers['k']:.2f}; used: {numbers['used']}")
    for doubt in numbers["doubts"]:
        print(f"  doubt: {doubt}")
    print(f"wrote {', '.join(f'{name}.npy' for name in FILES)}, {HDF5} and figures to {out}")
    if options.gate and numbers["doubts"]:
        return 4
    return 0


def write_results(folder: Path, arrays: dict[str, np.ndarray], sensors: Tensor) -> None:
    """Files of one reconstructed field: npy, everything in one HDF5 file, and figures.

    Args:
        folder: Where they go.
        arrays: Arrays of `latens.studies.pde.outputs` for one measurement, `map` and all draws.
        sensors: Positions, `(m, axes)`.
    """
    for name in FILES:
        array = arrays[name]
        write_array(folder / f"{name}.npy", array[:, 0, 0] if name == "draws" else array[0, 0])
    write_hdf5(folder / HDF5, arrays | {"sensors": sensors.numpy()})
    figures = {
        "field": field_figure(None, arrays, "reconstruction"),
        "closer": closer_figure(None, arrays | {"draws": arrays["draws"][:GALLERY]}, "posterior"),
    }
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.pdf", figure_pdf(figure))
        write_bytes(folder / f"{name}.svg", figure_svg(figure))


def read_readings(file: Path, study: Pde) -> tuple[Tensor, Tensor]:
    """Sensors `(m, axes)` and readings `(1, m)` of a csv.

    Columns are x, y and value on the square, x and value on the ring, and pattern, x, y and
    value for boundary fluxes, of which every pattern and boundary node of the run is needed.
    """
    axes = list("xy")[: study.system.axes]
    patterned = isinstance(study.system, EITSystem)
    wanted = [*(["pattern"] if patterned else []), *axes, "value"]
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise DataError(
            str(file),
            f"a csv with columns {', '.join(wanted)}",
            " ".join(str(error).split())[:120],
            "Save it as text, one reading per line.",
        ) from error
    table.columns = [str(name).strip() for name in table.columns]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise DataError(
            str(file),
            f"columns {', '.join(wanted)}",
            f"no {', '.join(missing)}",
            "Name the columns in the first line.",
        )
    if len(table) == 0:
        raise DataError(str(file), "one reading or more", "none", "Add lines.")
    numbers = table[wanted].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(numbers).all(1)
    if bad.any():
        line = int(np.flatnonzero(bad)[0]) + 2
        raise DataError(
            str(file),
            "finite numbers",
            f"{int(bad.sum())} lines with text, NaN or infinity, the first is line {line}",
            "Leave readings out that failed.",
        )
    if patterned:
        return _fluxes(file, numbers, study)
    positions = torch.from_numpy(numbers[:, : len(axes)].copy())
    return positions, torch.from_numpy(numbers[:, -1:].T.copy())


def _fluxes(file: Path, numbers: np.ndarray, study: Pde) -> tuple[Tensor, Tensor]:
    """Boundary nodes and their fluxes, pattern after pattern, in the order of the operator."""
    system = study.system
    assert isinstance(system, EITSystem)
    nodes = system.sensors(0, 0).numpy()
    values = np.full((len(system.numbers), len(nodes)), np.nan)
    for line, (pattern, x, y, value) in enumerate(numbers, 2):
        if pattern not in system.numbers:
            raise ConfigError(
                f"{file}: pattern",
                f"one of {', '.join(map(str, system.numbers))}",
                f"{pattern:g}",
                "This run knows no other boundary pattern.",
            )
        distance = np.abs(nodes - (x, y)).max(1)
        if distance.min() > 1e-6:
            raise ConfigError(
                f"{file}: x, y",
                f"a node of the boundary, {len(nodes)} of a grid {system.fine}",
                f"({x:g}, {y:g})",
                "Fluxes are measured around these nodes; interpolate to them.",
            )
        place = system.numbers.index(int(pattern)), distance.argmin()
        if np.isfinite(values[place]):
            raise DataError(
                str(file),
                "one reading of a pattern at a node",
                f"pattern {pattern:g} at ({x:g}, {y:g}) again in line {line}",
                "Average repeated readings.",
            )
        values[place] = value
    if np.isnan(values).any():
        raise DataError(
            str(file),
            f"{values.size} fluxes",
            f"{int(np.isfinite(values).sum())}",
            "Give every pattern at every boundary node.",
        )
    return torch.from_numpy(nodes), torch.from_numpy(values.reshape(1, -1))


def noise_level(y: Tensor, sigma: float | None, snr: float | None) -> NoiseLevel:
    """What is known of σ: its value, a ratio, or a wide prior around 1 % of the readings.

    A ratio is that of the clean readings; the mean square of noisy ones is larger by σ².

    Raises:
        ConfigError: If both are given, or one is out of range.
        DataError: If every reading is 0 and σ is not given.
    """
    if sigma is not None and snr is not None:
        raise ConfigError("sigma, snr", "one of them", (sigma, snr), "Leave one out.")
    size = y.square().mean(1).sqrt()
    if sigma is not None:
        if not 0 < sigma < np.inf:
            raise ConfigError("sigma", "a positive noise level", sigma, "Units of the readings.")
        return NoiseLevel(torch.full_like(size, sigma))
    if not bool((size > 0).all()):
        raise DataError(
            "value",
            "readings that are not all 0, where σ is taken from their size",
            "0 everywhere",
            "Give --sigma, in units of the readings.",
        )
    if snr is not None:
        if not -20 <= snr <= 120:
            raise ConfigError("snr", "decibel between -20 and 120", snr, "50 is 0.3 %.")
        ratio = 10 ** (-snr / 20)
        return NoiseLevel(size * ratio / (1 + ratio**2) ** 0.5)
    return NoiseLevel(0.01 * size, UNKNOWN_NOISE)


def believed(corrected: WeightedPosterior) -> bool:
    """Whether the solver confirmed every measurement."""
    return corrected.trusted is not None and bool(corrected.trusted.all())


def few_readings(count: int, dim: int) -> str:
    """Doubt about fewer readings than latents."""
    return f"{count} readings for {dim} latents: what is not read is what the model expects"


def noise_doubts(scales: Tensor, noise: NoiseLevel, y: Tensor) -> list[str]:
    """Doubts about a σ that was sampled, since it swallows every misfit.

    Args:
        scales: Draws of σ, `(M, 1)`, units of the readings.
        noise: Its prior.
        y: Readings, `(1, m)`.
    """
    found, doubts = float(scales.mean()), []
    away = abs(float((scales / noise.scale).log().mean())) / noise.spread
    if away > FAR:
        doubts.append(
            f"σ = {found:.3g} lies {away:.1f} standard deviations of its prior from 1 % of the "
            "readings: the field is unlike what the model was trained for, or --sigma is needed"
        )
    share = found / float(y.square().mean().sqrt())
    if share > LOUD:
        doubts.append(
            f"σ is {share:.0%} of the readings: noise, or a field unlike those of the training, "
            "explains them"
        )
    return doubts


def invert_readings(
    study: Pde, model: IGNO, sensors: Tensor, y: Tensor, noise: NoiseLevel, level: float
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Posterior of one field: arrays to be written, and numbers that describe it."""
    made = instrument(study, model, sensors)
    settings = study.inversion

    decoded, exact = (made.target(model, noise, exact) for exact in (False, True))
    laplace = FieldLaplace(decoded, climbs=settings.climbs, draws=max(MANY, settings.solved))
    gaussian = laplace.solve(y, range(len(y)), study.seed)
    assert isinstance(gaussian, GaussianPositions)
    weighting = FieldImportance(laplace, exact, draws=settings.solved)
    corrected = weighting.correct(gaussian)
    doubts = [] if y.shape[1] >= model.dim else [few_readings(y.shape[1], model.dim)]
    used: FieldPosterior = corrected
    way, rhat = "draws of Laplace's Gaussian, weighted with the solver", float("nan")
    if not believed(corrected):
        chains = FieldChains(
            decoded,
            kernel=HMC(max_steps=MAX_STEPS),
            chains=settings.chains,
            draws=settings.draws,
            warmup=settings.warmup,
            start=laplace,
        )
        sampled = chains.solve(y, range(len(y)), study.seed)
        rhat = sampled.diagnostics["rhat"]
        enough = len(sampled.pool[0]) >= DEFAULT_DRAWS
        fill_pools(sampled, max(DEFAULT_DRAWS, settings.solved))
        corrected = weighting.correct(sampled)
        if believed(corrected):
            used, way = corrected, "chains, weighted with the solver"
        else:
            used, way = (sampled, "chains") if enough else (gaussian, "Laplace's Gaussian")
            doubts += [text for texts in sampled.warnings.values() for text in texts]
            doubts.append("the solver did not confirm the decoder's posterior: k̂ is too large")
    interval = used.interval(level)
    best = FieldMAP(decoded, start=gaussian.mode[:, None], adam_steps=0)
    arrays = described(used, level) | {
        "map": best.solve(y, range(len(y)), study.seed).mean.numpy(force=True),
        "draws": used.sample().numpy(force=True),
    }
    scales = used.target.scales(used.positions(DEFAULT_DRAWS))
    if noise.spread > 0:
        doubts += noise_doubts(scales, noise, y)
    misfit = float(used.misfit_p_value())
    if misfit < MISFIT_LEVEL:
        doubts.append(
            "the readings fit worse than 99 % of those that the posterior foretells "
            f"(p = {misfit:.3f}): the field or the noise is unlike what the model was trained for"
        )
    numbers = {
        "sensors": len(sensors),
        "sigma": float(scales.mean()),
        "level": interval.level,
        "rhat": None if rhat != rhat else rhat,
        "k": float(corrected.k.max()),
        "used": way,
        "misfit_p": misfit,
        "doubts": doubts,
    }
    return arrays, numbers
