"""Every way on every equation, from end to end and tiny."""

import pandas as pd
import pytest

from latens.cli import main
from latens.store.hdf5 import read_hdf5

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
