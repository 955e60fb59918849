"""Every way on every equation, from end to end and tiny."""

import json

import numpy as np
import pandas as pd
import pytest

from latens.cli import main
from latens.store.hdf5 import read_hdf5
from latens.studies.configure import construct
from latens.studies.pde.study import Pde

SETTINGS = [
    "--pairs=60",
    "--held_out=24",
    "--test_fields=3",
    "--network.dim=3",
    "--network.width=8",
    "--network.depth=2",
    "--network.levels=2",
    "--network.encoder=4",
    "--network.features=8",
    "--inversion.climbs=2",
    "--inversion.chains=2",
    "--inversion.draws=45",
    "--inversion.warmup=20",
    "--inversion.solved=39",
    "--inversion.amortised_steps=20",
    "--inversion.solver_fields=1",
    "--inversion.simulated=20",
    "--training.max_steps=20",
    "--training.batch_size=16",
    "--training.warmup_steps=3",
    "--training.kl_warmup_steps=5",
    "--training.validate_every=10",
]
OF_EQUATION = {
    "smooth": ["--system.init_args.nodes=9", "--sensors=[12]"],
    "piecewise": ["--system.init_args.nodes=9", "--system.init_args.refine=1", "--sensors=[12]"],
    "eit": ["--system.init_args.nodes=8", "--system.init_args.patterns=[1,7]"],
    "burgers": ["--system.init_args.nodes=16", "--system.init_args.steps=150", "--sensors=[12]"],
}


@pytest.mark.slow
@pytest.mark.parametrize("preset", OF_EQUATION)
def test_every_way_of_every_preset(preset, tmp_path):
    out = tmp_path / "run"
    ways = ["descent", "map", "laplace", "amortised", "refined", "hmc", "corrected", "solver"]
    named = f"--inversion.solvers=[{','.join(ways)}]"
    command = ["run", "pde", "--preset", preset, "--out", str(out), named]
    assert main([*command, *SETTINGS, *OF_EQUATION[preset]]) == 0
    table = pd.read_csv(out / "tables" / "pde.csv")
    assert set(table["solver"]) == {"igno", *ways}
    fields = table[table["metric"] == "relative_l2"].set_index("solver")["fields"]
    assert fields["solver"] == 1
    assert fields["hmc"] == 3
    (cell,) = (out / "evaluations").iterdir()
    tests = pd.read_csv(cell / "tests.csv")
    tested = {"laplace", "amortised", "refined", "hmc"}
    assert set(tests["solver"]) == tested
    assert set(tests["test"].str.partition(": ")[0]) == {"model"}  # three fields are too few
    assert tests["images"].between(11, 20).all()  # untrusted ones are left out
    arrays = read_hdf5(cell / "fields.h5", ["truth"])
    assert len(arrays["truth"]) == 3
    errors = table[table["metric"] == "ece"]
    assert set(errors["solver"]) == (set(ways) if preset == "piecewise" else set())
    assert errors["mean"].between(0, 1).all()
    page = (out / "report.html").read_text("utf-8")
    assert "simulated from the model" in page
    assert page.count("<img") == 13  # two per posterior, and ranks
    sensors_are_answered(out, tmp_path / "readings.csv")


def sensors_are_answered(run, file):
    """`latens reconstruct` of a field of the family, noise told as a ratio and as σ."""
    study = construct(Pde, json.loads((run / "run.json").read_text())["config"])
    fields, system = study.fields(5 * 10**6, 1), study.system
    sensors = system.sensors(15, seed=9)
    y = system.operator(sensors)(fields.fine).flatten()
    columns = list("xy")[: system.axes]
    table = pd.DataFrame(sensors.numpy(), columns=columns)
    if not system.anywhere:
        numbers = np.repeat([1, 7], len(sensors))
        table = pd.concat([table, table], ignore_index=True).assign(pattern=numbers)
    table = table.assign(value=y.numpy())
    table[::-1].to_csv(file, index=False)
    ordered = y.flip(0) if system.anywhere else y  # fluxes are sorted, whatever the file's order
    for noise in (["--snr", "30"], ["--sigma", str(0.03 * float(y.square().mean()) ** 0.5)]):
        out = file.with_name(noise[0][2:])
        assert main(["reconstruct", str(run), str(file), "--out", str(out), *noise]) == 0
        mean, lower, upper = (np.load(out / f"{name}.npy") for name in ("mean", "lower", "upper"))
        assert mean.shape == system.grid
        assert (lower <= upper).all()
        assert np.isfinite(mean).all()
        whole = read_hdf5(out / "posterior.h5", ["readings", "marginals", "correlation"])
        np.testing.assert_allclose(whole["readings"][0], ordered, rtol=1e-5)
        assert whole["marginals"].shape[2] == whole["correlation"].shape[1] == 3
        assert (out / "closer.svg").stat().st_size > 1000
    table.assign(x=[1.5, *table["x"][1:]]).to_csv(file, index=False)
    out = file.with_name("outside")
    assert main(["reconstruct", str(run), str(file), "--out", str(out)]) == 2
    assert not out.exists()
