"""`latens encode`: scans of subjects over time, as a trained encoder sees them."""

from argparse import Namespace
from pathlib import Path

import torch

from latens.data import LesionGrowth, PhantomSubjects, SubjectFolder, Subjects, SubjectSource
from latens.data.head_painting import HALF_FIELD
from latens.data.latent_series import SUFFIX, LatentSeries, order_of_visits
from latens.errors import ConfigError, DataError
from latens.models.partitioned import PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.store import RunFolder, read_json
from latens.studies.configure import construct
from latens.studies.volumes.fit import load_model
from latens.studies.volumes.scans import Images
from latens.studies.volumes.seen import LEARNED, trained_roles
from latens.studies.volumes.study import VolumeStudy
from latens.training import one_thread
from latens.training.diagnostics import encoded
from latens.types import PathLike, Shape

PHANTOM_SEED = 1_000_003
"""Seed of the phantom subjects that are encoded where no folder is given: not those of a run."""
PHANTOM_GROWTH = LesionGrowth(visits=7)
"""As many visits as the comparison of forecasters tests patients with, and one more."""


def encode_command(options: Namespace) -> int:
    """Encode a folder of subjects, or growing phantoms; returns the exit code."""
    out = Path(options.out)
    if out.suffix != SUFFIX:
        raise ConfigError("out", f"a file ending in {SUFFIX}", options.out, "Rename it.")
    if out.exists():
        raise DataError("out", "a file that does not exist yet", str(out), "Choose another.")
    study, model, fit = trained(options.run, options.seed)
    source = (
        growing_phantoms(model.signal_shape, options.count)
        if options.subjects is None
        else folder_like(study, model.signal_shape, options.subjects)
    )
    loaded = source.load()
    check_shape(model, loaded.shape)
    roles = trained_roles(loaded, RunFolder.open(options.run).fit(fit))
    learned = sum(role in LEARNED for role in roles.values())
    if learned:
        print(f"warning: the encoder was trained on {learned} of these {len(loaded)} scans, or")
        print("chosen by them; what is forecast from their latents says little about new subjects")
    with one_thread():
        series = encode_subjects(model, loaded, fit)
    series.save(out)
    subjects = len(set(series.patients))
    print(f"{subjects} subjects, {len(series.patients)} visits, {series.dim} latents: {out}")
    print(f"forecast them: latens run growth --stage ode --latents {out}")
    return 0


def trained(run: PathLike, seed: int = 0) -> tuple[VolumeStudy, VolumeVAE, str]:
    """Study, trained model and hash of its fit, of a run of exp1, exp2 or exp3.

    Args:
        run: Run folder.
        seed: Which of its trainings.

    Raises:
        DataError: If the folder is no such run, or is damaged.
        ConfigError: If it has no such seed.
        SolverError: If the training failed.
    """
    folder = RunFolder.open(run)
    config = folder.description["config"]
    if folder.description["study"] != VolumeStudy.name or config.get("stage", "ode") == "ode":
        raise DataError(
            str(folder.path),
            "a run of growth, stage exp1, exp2 or exp3",
            f"{folder.description['study']}, stage {config.get('stage', 'none')}",
            "Give another folder.",
        )
    fits = read_json(folder.units_file)["fits"] if folder.units_file.is_file() else {}
    name = f"seed {seed}"
    if name not in fits:
        raise ConfigError(
            "seed",
            f"one of the finished trainings ({', '.join(sorted(fits)) or 'none'})",
            seed,
            "Choose one, or finish the run.",
        )
    study = construct(VolumeStudy, config)
    shape = tuple(folder.description["data"]["shape"])  # no scan is read for it
    return study, load_model(study, folder.fit(fits[name]), shape), fits[name]


def growing_phantoms(shape: Shape, count: int) -> PhantomSubjects:
    """Phantom subjects with visits, of the size that the model was trained on."""
    _, depth, height, width = shape
    return PhantomSubjects((depth, height, width), count, PHANTOM_SEED, PHANTOM_GROWTH)


def folder_like(study: VolumeStudy, shape: Shape, path: str) -> SubjectSource:
    """A folder of subjects, prepared as those that the model was trained on, without its limit.

    The days of visits are those of the training where the folder is its folder; another has its
    own. After phantoms, voxels are as large as theirs are along the longest axis.
    """
    if isinstance(study.data, SubjectFolder):
        known = study.data
        same = Path(path).resolve() == Path(known.path).resolve()
        return SubjectFolder(
            path,
            known.patterns,
            known.modalities,
            known.size,
            known.spacing,
            known.labels,
            "keep",
            visits=known.visits if same else None,
            cache=known.cache,
        )
    _, depth, height, width = shape
    size = (depth, height, width)
    spacing = 2 * HALF_FIELD / max(size) if isinstance(study.data, PhantomSubjects) else None
    return SubjectFolder(path, size=size, spacing=spacing, no_lesion="keep")


@torch.no_grad()
def encode_subjects(model: VolumeVAE, subjects: Subjects, fit: str) -> LatentSeries:
    """Mean and variances of q for every visit.

    Args:
        model: Trained model.
        subjects: Scans with the days of their visits.
        fit: Hash of the fit that the model is of.

    Raises:
        DataError: If the days are not known, or two visits of a subject have one day.
        ShapeError: If the scans have another shape than the model's.
    """
    if subjects.times is None:
        raise DataError(
            subjects.name or "subjects",
            "the day of every visit",
            "none",
            "Add a table visits.csv with the columns scan and day.",
        )
    check_shape(model, subjects.shape)
    rows = order_of_visits(subjects.groups, subjects.times)
    chosen = subjects.select(rows)
    images = Images(chosen)
    loc, scale = encoded(model, images)  # pyright: ignore[reportArgumentType]
    units = None
    if isinstance(model, PartitionedVAE) and model.parts.get("volume") == slice(0, 1):
        units = (float(model.target_loc[0]), float(model.target_scale[0]))
    assert chosen.times is not None
    return LatentSeries(
        patients=chosen.groups,
        times=chosen.times,
        loc=loc.float().cpu(),
        variance=scale.float().square().cpu(),
        log_volumes=chosen.targets[:, 0].double(),
        affines=torch.from_numpy(chosen.affines),
        axes=chosen.axes,
        codes=chosen.codes,
        shape=tuple(chosen.shape),
        channels=chosen.channels,
        volume_units=units,
        encoder=fit,
    )


def check_shape(model: VolumeVAE, shape: Shape) -> None:
    """Raise unless scans of a shape are what the model was trained on."""
    if tuple(shape) != tuple(model.signal_shape):
        raise DataError(
            "subjects",
            f"scans of shape {tuple(model.signal_shape)}, as the model was trained on",
            tuple(shape),
            "Prepare them with the same size and modalities.",
        )
