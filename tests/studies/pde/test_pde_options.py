"""Options of the study that no preset uses: each is taken, and does what it says."""

import pandas as pd

from latens.cli import main
from latens.nets import SplineFlow
from latens.store import RunFolder, content_hash
from latens.studies.configure import construct
from latens.studies.pde.fit import trained
from latens.studies.pde.run import fit_identity
from latens.studies.pde.study import Pde
from latens.studies.pde.systems import DarcySystem
from studies.pde.tiny import SETTINGS


def test_nuts_a_spline_flow_joint_training_residuals_and_an_unknown_noise_level(tmp_path):
    out = tmp_path / "run"
    settings = [
        "--flow=latens.nets.SplineFlow",
        "--network.schedule=joint",
        "--network.evidence=both",
        "--system.init_args.form=strong",
        "--inversion.solvers=[draw,map,nuts,corrected]",
        "--inversion.noise_spread=0.5",
        "--inversion.equation=true",
        "--inversion.simulated=0",
    ]
    assert main(["run", "pde", "--out", str(out), *SETTINGS, *settings]) == 0
    run = RunFolder.open(out)
    config = run.description["config"]
    study = construct(Pde, config)
    assert isinstance(study.flow, SplineFlow)
    model = trained(study, run.fit(content_hash(fit_identity(config))))
    assert model.stages == ("joint",)
    assert model.evidence == "both"
    assert not model.equation.reads_nodes
    table = pd.read_csv(out / "tables" / "pde.csv").set_index(["solver", "metric"])
    assert table.loc[("nuts", "relative_l2"), "fields"] == 3
    for way in ("draw", "map", "nuts", "corrected"):
        assert 0 < table.loc[(way, "relative_l2"), "mean"] < 1
    assert 0 <= table.loc[("nuts", "coverage_95"), "mean"] <= 1
    assert table.loc[("corrected", "relative_l2"), "fields"] == 2


def test_a_residual_needs_derivatives_of_the_coefficient(tmp_path, capsys):
    out = tmp_path / "run"
    settings = ["--preset=piecewise", *SETTINGS, "--system.init_args.form=strong"]
    assert main(["run", "pde", "--out", str(out), *settings, "--network.evidence=both"]) == 2
    error = capsys.readouterr().err
    assert "evidence" in error
    assert "form: weak" in error
    assert not out.exists()


def test_the_equation_alone_needs_few_solutions(tmp_path, monkeypatch):
    solved, solutions = [], DarcySystem.solutions
    monkeypatch.setattr(
        DarcySystem,
        "solutions",
        lambda self, fine: solved.append(len(fine)) or solutions(self, fine),
    )
    out = tmp_path / "run"
    settings = ["--network.evidence=residual", "--pairs=80", "--inversion.solvers=[draw,map]"]
    assert main(["run", "pde", "--out", str(out), *SETTINGS, *settings]) == 0
    assert solved[0] == 32
    table = pd.read_csv(out / "tables" / "pde.csv").set_index(["solver", "metric"])
    assert 0 < table.loc[("map", "relative_l2"), "mean"] < 1
