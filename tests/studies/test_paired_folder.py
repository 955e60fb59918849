"""Somebody's own pairs, with an operator that nobody knows."""

import json
from pathlib import Path

import numpy as np
import pytest

import latens
from latens.cli import main
from latens.data import Phantoms
from latens.store import PER_IMAGE, read_parquet
from stand_ins.tiny_study import LINEAR, run, small, write_config


def test_pairs_of_an_unknown_operator(
    tmp_path: Path, without_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    x = Phantoms((16, 16), 60).load().x.numpy()[:, 0]
    y = x[:, ::2, ::2] ** 2
    patients = {f"{index}.npy": f"patient{index // 4}" for index in range(60)}
    for part, arrays in (("x", x), ("y", y)):
        (tmp_path / "pairs" / part).mkdir(parents=True)
        for name, array in zip(patients, arrays, strict=True):
            np.save(tmp_path / "pairs" / part / name, array)
    rows = "".join(f"{name},{patient}\n" for name, patient in patients.items())
    (tmp_path / "pairs" / "groups.csv").write_text("file,group\n" + rows)
    tree = small(
        data={
            "class_path": "latens.data.PairedFolder",
            "init_args": {"path": str(tmp_path / "pairs")},
        },
        models={
            "cvae": {
                "class_path": "latens.models.CVAE",
                "init_args": {"dim": 2, "architecture": LINEAR},
            },
            "unet": {"class_path": "latens.models.UNet", "init_args": {"width": 4}},
        },
        ensembles=["cvae"],
        baselines=[],
        sizes=[32, 44],
        test_images=10,
    )
    config, out = write_config(tmp_path / "c.yaml", tree), tmp_path / "run"
    assert run(config, out, extra=["--operator", "null", "--noise", "null"]) == 0
    assert "unet" in capsys.readouterr().out

    for file in (out / "fits").glob("*/fit.json"):
        fit = json.loads(file.read_text())
        assert fit["actual_n"] % 4 == 0
        assert sum(fit["roles"].values()) == fit["actual_n"]
        assert all(count % 4 == 0 and count for count in fit["roles"].values())
    for file in (out / "evaluations").glob("*/per_image.parquet"):
        table = read_parquet(file, PER_IMAGE)
        assert "data_chi2" not in set(table["metric"])
        mse = table[table["metric"] == "mse"]
        assert set(mse["group"].value_counts()) == {4}
        assert len(mse) == 12

    np.save(tmp_path / "new.npy", y[0])
    assert main(["reconstruct", str(out), str(tmp_path / "new.npy"), "--solver", "unet"]) == 0
    mean = np.load(tmp_path / "new" / "mean.npy")
    assert mean.shape == (1, 1, 16, 16)
    assert json.loads((tmp_path / "new" / "reconstruction.json").read_text())["flags"] == []
    told = capsys.readouterr().out
    assert "not compared with the test set" in told
    argv = ["reconstruct", str(out), str(tmp_path / "new.npy"), "--gate", "--solver"]
    assert main([*argv, "unet", "--out", str(tmp_path / "gated")]) == 4
    assert "no operator and noise are stated" in capsys.readouterr().err
    facts = json.loads((tmp_path / "gated" / "reconstruction.json").read_text())
    assert facts["refused"] == [0]
    main([*argv, "cvae_ensemble", "--out", str(tmp_path / "scored")])
    assert "data residual not checked" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "scored" / "reconstruction.json").read_text())["flags"]
    names = {entry["score"] for entry in row["scores"]}
    assert names == {"representation", "code", "disagreement", "spread"}
    assert latens.load(out, "cvae_ensemble").problem is None
