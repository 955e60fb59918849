"""Assessment of a trained model on the held-out scans: rows of numbers, and pictures."""

import time
from collections.abc import Callable
from math import nan
from typing import Any

from safetensors.torch import save_file

from latens.evaluation.intervals import Interval
from latens.evaluation.volumes import assess_volumes
from latens.metrics import active_units
from latens.models.partitioned import REST, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.reporting.volumes import PICTURES
from latens.store import (
    Outcome,
    RunFolder,
    content_hash,
    from_rows,
    new_folder,
    write_csv,
    write_json,
)
from latens.studies.volumes.fit import load_model
from latens.studies.volumes.pictures import pictures
from latens.studies.volumes.study import VolumeStudy
from latens.studies.volumes.tables import VOLUME_METRICS
from latens.training.diagnostics import FEWEST, LatentUse


def assess(
    study: VolumeStudy,
    run: RunFolder,
    fit_hash: str,
    identity: dict[str, Any],
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Assess a fit on the held-out scans, unless that was done before.

    Args:
        study: Settings of the run.
        run: Its folder, to which the assessment is added.
        fit_hash: The fit.
        identity: What the assessment is made of.
        seed: Of the initialisation, and of draws.
        say: Told when it is done.
    """
    hash = content_hash(identity)
    if run.has_evaluation(hash):
        return
    start = time.perf_counter()
    outcome = Outcome.read(run.fit(fit_hash))
    model, sample = load_model(study, run.fit(fit_hash)), study.sample()
    found = assess_volumes(model, sample, seed)
    values = {**found.values, **_without_interval(model, found.use)}
    common = {"stage": study.stage, "seed": seed, "status": str(outcome.status)}
    rows = [{**common, **metric_cells(metric, value)} for metric, value in values.items()]
    unknown = Interval(nan, nan, nan, nan, len(found.use.loc), found.use.subjects)
    for metric, reason in found.missing.items():
        rows.append({**common, **metric_cells(metric, unknown), "missing": reason})
    with new_folder(run.evaluation(hash)) as folder:
        write_json(folder / "evaluation.json", identity)
        outcome.write(folder)
        write_csv(folder / "volume_metrics.csv", VOLUME_METRICS, from_rows(rows, VOLUME_METRICS))
        first = sample.test[slice(0, study.shown)]
        save_file(pictures(model, first, found.use, study.shown_lesions()), folder / PICTURES)
    seconds = round(time.perf_counter() - start, 3)
    train = len(study.roles["train"])
    run.record_cost("evaluation", hash, study.stage, train, 0, seed, seconds, float("nan"))
    say(f"seed {seed}: assessed in {seconds:.0f} s")


def _without_interval(model: VolumeVAE, use: LatentUse) -> dict[str, Interval]:
    """Diagnostics on the held-out scans, which have no interval."""
    plain = {name.split("/")[1]: value for name, value in use.numbers.items()}
    del plain["kl_raw"]  # `kl` has one
    if isinstance(model, PartitionedVAE) and use.subjects >= FEWEST:
        plain["rest_units"] = float(active_units(model.part(REST, use.loc)))
    scans, subjects = len(use.loc), use.subjects
    return {name: Interval(value, nan, nan, nan, scans, subjects) for name, value in plain.items()}


def metric_cells(metric: str, found: Interval) -> dict[str, Any]:
    """Columns of a metric, of which nothing is missing."""
    return {
        "metric": metric,
        "value": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "level": found.level,
        "scans": found.images,
        "subjects": found.groups,
        "missing": "",
    }
