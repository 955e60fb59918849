"""`latens reconstruct` of a run of scans: what the latents keep of new subjects, as NIfTI."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from latens.data import Subjects
from latens.data.subjects import PARTS
from latens.distributions import Purpose, draw, row_noise
from latens.errors import ConfigError, DataError
from latens.models.partitioned import PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.store import RunFolder, Schema, from_rows, new_folder, write_csv
from latens.studies.volumes.decode import DRAWS, decoded_moments, file_names
from latens.studies.volumes.encode import check_shape, folder_like, trained
from latens.studies.volumes.seen import LEARNED, trained_roles
from latens.training import one_thread

RECONSTRUCTED = Schema(
    "reconstructed_scans",
    {
        "scan": "str",
        "quantity": "str",  # mse of the reconstruction, or a quantity that aligned latents mean
        "value": "float64",
        "std": "float64",
        "measured": "float64",
        "role": "str",  # in the training; empty where the model has not seen the scan
    },
    ("scan", "quantity"),
)


def reconstruct_scans(options: Namespace) -> int:
    """Encode and decode every scan of a folder; returns the exit code."""
    refused = {"--solver": options.solver, "--n": options.n, "--level": options.level}
    refused |= {"--sigma": options.sigma, "--snr": options.snr}
    given = [name for name, value in refused.items() if value is not None]
    if given or options.gate:
        raise ConfigError(
            (given or ["--gate"])[0], "no value for a run of growth", "one", "Leave it out."
        )
    folder = Path(options.file)
    out = Path(options.out) if options.out else folder.with_name(f"{folder.name}-reconstructed")
    if out.exists():
        raise DataError(
            "out", "a folder that does not exist yet", str(out), "Choose another with --out."
        )
    study, model, fit = trained(options.run)
    subjects = folder_like(study, model.signal_shape, options.file).load()
    check_shape(model, subjects.shape)
    roles = trained_roles(subjects, RunFolder.open(options.run).fit(fit))
    with one_thread(), new_folder(out) as place:
        rows = write_reconstructions(model, subjects, study.parts, place)
        rows = [{**row, "role": roles.get(row["scan"], "")} for row in rows]
        write_csv(place / "scans.csv", RECONSTRUCTED, from_rows(rows, RECONSTRUCTED))
    print(f"{len(subjects)} scans, {len(subjects.channels)} modalities each: {out}")
    learned = sum(role in LEARNED for role in roles.values())
    if learned:
        print(f"warning: {learned} of them were trained on, or chose the weights: see `role`")
    return 0


@torch.no_grad()
def write_reconstructions(
    model: VolumeVAE, subjects: Subjects, parts: list[Any], folder: Path
) -> list[dict[str, Any]]:
    """Write the input, its reconstruction and the standard deviation of every modality.

    Args:
        model: Trained model.
        subjects: Scans; their maps are written at their places.
        parts: Parts that a partitioned model aligns.
        folder: Where the files go.

    Returns:
        Rows of `RECONSTRUCTED` but for `role`.
    """
    rows: list[dict[str, Any]] = []
    quantities = [name for part in parts for name in PARTS[part]]
    for k, stem in enumerate(file_names(subjects.names)):
        x = subjects[[k]].images
        q = model.encode(x.to(next(model.parameters()).device))
        noise = row_noise((0, Purpose.LATENT), [k], (DRAWS, model.dim)).to(q.mean)
        mean, std = decoded_moments(model, draw(q, noise)[:, 0])
        for c, channel in enumerate(subjects.channels):
            maps = {"input": x[0, c], "mean": mean[c], "std": std[c]}
            for kind, values in maps.items():
                subjects.write(k, values, folder / f"{stem}_{channel}_{kind}.nii.gz")
        found = {"mse": (float((mean - x[0]).square().mean()), float("nan"), float("nan"))}
        if isinstance(model, PartitionedVAE):
            read = model.predicted_targets(q.mean)[0]
            own = q.variance[0, : len(read)] + model.target_spread.value.square()
            spread = (own.sqrt() * model.target_scale).tolist()  # of z | x and of t | z
            measured = subjects.target(*parts)[k].tolist()
            found |= dict(
                zip(quantities, zip(read.tolist(), spread, measured, strict=True), strict=True)
            )
        for quantity, (value, deviation, known) in found.items():
            row = {"scan": subjects.names[k], "quantity": quantity, "value": value}
            rows.append({**row, "std": deviation, "measured": known})
    return rows
