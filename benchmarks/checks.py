"""What deep checks cost, against what is announced before they run.

    latens run scarcity --preset quick --out RUN --jobs 1 \\
        --checks "[calibration,stability,null_space,ambiguity,reliability]"
    python benchmarks/checks.py RUN

Prints for every check and solver of a finished run, this or another, the seconds it took, median
over N, and the seconds that `latens.studies.expected` foresees on this machine. Rows go to
`benchmarks/data/checks.json`.
"""

import argparse
import json
import statistics
from pathlib import Path

from latens.store import RunFolder
from latens.studies.configure import construct
from latens.studies.enumeration import units_of
from latens.studies.expected import seconds_per_check
from latens.studies.scarcity import Scarcity

ROWS = Path(__file__).resolve().parent / "data" / "checks.json"


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    run = RunFolder.open(parser.parse_args().run)
    config = run.description["config"]
    study = construct(Scarcity, config)
    _, evaluations = units_of(study, config)
    seconds = run.read_costs().set_index("hash")["seconds"]
    groups: dict[tuple[str, str], list] = {}
    for unit in evaluations:
        if unit.check and unit.hash in seconds.index:
            groups.setdefault((unit.check, unit.solver), []).append(unit)
    rows = []
    for (check, solver), units in groups.items():
        measured = statistics.median(float(seconds[unit.hash]) for unit in units)
        foreseen = seconds_per_check(study, units[0])
        row = {"check": check, "solver": solver, "images": units[0].images}
        row |= {"seconds": round(measured, 2), "announced": round(foreseen, 2)}
        rows.append(row)
        print(f"{check:<12} {solver:<16} {measured:8.2f} s, announced {foreseen:8.2f} s")
    total = sum(row["seconds"] for row in rows)
    print(
        f"together {total:.1f} s for each N, announced {sum(r['announced'] for r in rows):.1f} s"
    )
    ROWS.parent.mkdir(exist_ok=True)
    ROWS.write_text(json.dumps({"run": config["sizes"], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
