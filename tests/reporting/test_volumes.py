"""The report of exp1 to exp3 from tables alone."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from latens.errors import DataError
from latens.reporting import write_figures, write_report
from latens.reporting.volume_pictures import slices
from latens.reporting.volumes import (
    PICTURES,
    answers,
    read_volumes,
    shown_metrics,
    volume_summary_text,
)
from latens.store import RunFolder, from_rows, read_csv, write_csv, write_json
from latens.studies.volumes.tables import VOLUME_HISTORY, VOLUME_METRICS

VALUES = {
    "au_count": (40.0, 9.0),
    "kl": (80.5, 31.0),
    "ablation_z0": (6.0, 5.0),
    "leak_volume": (0.031, 0.012),
    "leak_volume_ridge": (0.031, 0.012),
    "leak_shape": (0.2, 0.01),
    "sigma_leak_volume": (0.55, 0.012),
    "draw_leak_volume": (0.02, 0.01),
    "rest_units": (12.0, 3.0),
    "permuted_rest": (2.2, 1.4),
    "r2_shape": (0.7, 0.6),
    "recon_mu_mse": (0.1, 0.1),
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    data = {
        "name": "heads & <b>tails</b>",
        "channels": ["t1c"],
        "aligned": ["log_volume"],
        "train": 100,
        "validation": 20,
        "test": 30,
    }
    config = {"stage": "exp3", "model": {"dim": 64}}
    folder = RunFolder.create(
        tmp_path / "run",
        {"study": "growth", "name": "a & b", "config": config, "data": data, "result_version": 1},
    )
    metrics, history = [], []
    for seed in (0, 1):
        for metric, values in VALUES.items():
            value = values[seed]
            row = {"stage": "exp3", "seed": seed, "metric": metric, "value": value}
            row |= {"lower": value - 0.01, "upper": value + 0.01, "level": 0.95}
            metrics.append({**row, "scans": 30, "subjects": 30, "status": "converged"})
            metrics[-1]["missing"] = ""
        for step in (10, 20):
            for quantity in ("train_epoch/loss", "val_epoch/loss", "diag/kl_raw"):
                row = {"stage": "exp3", "seed": seed, "step": step, "quantity": quantity}
                history.append({**row, "value": 1.0 / step})
    write_csv(
        folder.tables / "volume_metrics.csv", VOLUME_METRICS, from_rows(metrics, VOLUME_METRICS)
    )
    write_csv(
        folder.tables / "volume_history.csv", VOLUME_HISTORY, from_rows(history, VOLUME_HISTORY)
    )
    write_json(folder.units_file, {"fits": {}, "evaluations": {}})
    return folder


def test_the_page_holds_the_numbers_and_escapes_names(run: RunFolder) -> None:
    page = write_report(run).read_text("utf-8")
    for text in ("80.5", "0.031", "a &amp; b", "model.dim", "heads &amp; &lt;b&gt;"):
        assert text in page
    assert "<script" not in page
    assert page == write_report(run).read_text("utf-8")


def test_every_gate_and_leak_is_named_with_the_worst_seed(run: RunFolder) -> None:
    found = answers(read_volumes(run))
    text = "\n".join(found)
    assert "1 of 2 seeds pass (more than 10)." in text
    assert "2 of 2 seeds pass (more than 10 nats)" in text
    assert "The rest tells 0.031 of the variance of volume at most: no more than" in text
    assert "The rest tells 0.200 of the variance of shape at most: more than" in text
    assert "The rest with its σ tells 0.550 of the variance of volume at most: more than" in text
    assert "A draw of the rest tells 0.020 of the variance of volume at most: no more" in text
    assert "active units of the rest: 12, 3; 1 of 2 seeds pass" in text
    assert "error with another rest over own: 2.2, 1.4; 1 of 2 seeds pass (more than 2)" in text
    results = read_volumes(run)
    results.metrics.loc[results.metrics["metric"] == "au_count", "value"] = 10.0
    assert "0 of 2 seeds pass (more than 10)." in "\n".join(answers(results))
    results.metrics.loc[0, "status"] = "collapsed"
    assert "collapsed" in answers(results)[0]


def test_what_is_missing_is_named_with_its_reason(run: RunFolder) -> None:
    path = run.tables / "volume_metrics.csv"
    table = read_csv(path, VOLUME_METRICS)
    gone = table["metric"].isin(["au_count", "leak_shape"])
    table.loc[gone, "missing"] = "1 subject, 8 are needed"
    table.loc[gone, ["value", "lower", "upper"]] = math.nan
    write_csv(path, VOLUME_METRICS, table)
    text = "\n".join(answers(read_volumes(run)))
    assert "Not measured (1 subject, 8 are needed): active units, leak shape." in text
    assert "seeds pass (more than 10)." not in text
    assert "of the variance of shape" not in text
    printed = volume_summary_text(table)
    assert "– au_count, leak_shape: 1 subject, 8 are needed" in printed
    assert write_report(run).read_text("utf-8").count("1 subject, 8 are needed") == 5


def test_the_summary_is_grouped_and_leaves_single_probes_out(run: RunFolder) -> None:
    shown = shown_metrics({*VALUES, "psnr_t1c", "ssim_t1c", "mse"})
    assert shown == {
        "latents in use": ["au_count", "kl", "ablation_z0", "rest_units", "permuted_rest"],
        "quality": ["mse", "psnr_t1c", "ssim_t1c"],
        "disentanglement": [
            *("leak_shape", "leak_volume", "sigma_leak_volume", "draw_leak_volume", "r2_shape")
        ],
    }
    text = volume_summary_text(read_volumes(run).metrics)
    assert "seed 1" in text
    assert "leak_volume_ridge" not in text
    lines = text.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "latents in use",
        "disentanglement",
    ]
    assert not math.isnan(float(lines[2].split()[1]))
    assert "disentanglement</span>" in write_report(run).read_text("utf-8")


def test_every_shown_scan_has_its_slice(run: RunFolder) -> None:
    """Slices other than the one that is named are black."""
    count, shape = 3, (3, 1, 8, 5, 5)
    truth = np.zeros(shape, np.float32)
    places = np.asarray([2, 7, 4])
    for scan, place in enumerate(places):
        truth[scan, 0, place] = np.linspace(scan + 1, scan + 2, 25).reshape(5, 5)
    arrays = {"truth": truth, "mean": truth + 0.5, "std": truth + 0.1, "slices": places}
    arrays |= {"lesions": np.asarray([True, True, False])}
    arrays |= {"traversal": np.zeros((1, 5, 1, 5, 5), np.float32)}
    arrays |= {"positions": np.linspace(-2, 2, 5), "latents": np.asarray([3]), "kl": np.ones(9)}
    for scan in range(count):
        shown = [ax.images[0].get_array() for ax in slices(arrays, ["t1c"], scan).axes]
        own = truth[scan, 0, places[scan]]
        for picture, expected in zip(shown, (own, own + 0.5, own + 0.1), strict=True):
            np.testing.assert_allclose(picture, expected)
    folder = run.evaluation("0123abcd")
    folder.mkdir(parents=True)
    write_json(folder / "evaluation.json", {"fit": "abc"})
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / PICTURES)
    write_json(run.units_file, {"fits": {"seed 1": "abc"}, "evaluations": {"0123abcd": "exp3"}})
    page = write_report(run).read_text("utf-8")
    assert "held-out scan 1, seed 1: axial slice 3 of 8, where the lesion is largest" in page
    assert "held-out scan 2, seed 1: axial slice 8 of 8, where the lesion is largest" in page
    assert "held-out scan 3, seed 1: axial slice 5 of 8, the middle" in page
    names = {path.name for path in run.figures.iterdir()}
    assert names >= {f"slices_1_{k}.pdf" for k in (1, 2, 3)}


def test_figures_and_missing_tables(run: RunFolder) -> None:
    assert [path.name for path in write_figures(run)] == ["dashboard.pdf"]
    (run.tables / "volume_history.csv").unlink()
    with pytest.raises(DataError, match="volume_history"):
        write_report(run)


def test_a_run_that_failed_at_once_still_has_a_page(run: RunFolder) -> None:
    empty = {"volume_metrics": VOLUME_METRICS, "volume_history": VOLUME_HISTORY}
    for name, schema in empty.items():
        write_csv(run.tables / f"{name}.csv", schema, from_rows([], schema))
    page = write_report(run).read_text("utf-8")
    assert "<svg" in page
    assert volume_summary_text(read_volumes(run).metrics).strip() == ""
