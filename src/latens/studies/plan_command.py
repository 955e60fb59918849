"""`latens plan`: bars from the command line, tables of the plan, what is printed. No torch."""

from argparse import Namespace
from pathlib import Path

from latens.errors import ConfigError, UnsupportedError
from latens.reporting import back_test_text, metrics_mark, plan_text, write_report
from latens.scaling import DEFAULT_BARS, parse_bar
from latens.store import BACK_TEST, RunFolder, write_json, write_table
from latens.studies.curves import read_metrics, with_awareness
from latens.studies.plan import back_test_table, default_bars, plan_tables

NOT_TESTED = ("interval_width",)
"""Metrics without a better or a worse, which no bar is about."""


def plan_command(options: Namespace) -> int:
    """Plan for the bars of the options, write tables and report, print.

    Returns:
        Exit code 0, whatever the answers are.

    Raises:
        ConfigError: If a bar or the level is not valid.
        DataError: If the run has no tables, or too few sizes.
        UnsupportedError: If it is a run of `pde`, which has no learning curve.
    """
    if not 0 < options.level < 1:
        raise ConfigError("--level", "a probability in (0, 1)", options.level, "Use 0.9, not 90.")
    run = RunFolder.open(Path(options.run))
    if run.description["study"] == "pde":
        raise UnsupportedError(
            str(run.path),
            "a run with several numbers of training samples",
            "a run of pde, which has one",
            "Read `tables/pde.csv`, or repeat the run with other `--pairs`.",
        )
    evaluated, definitions = read_metrics(run)
    metrics, definitions = with_awareness(run, evaluated, definitions)
    present = sorted(set(metrics["metric"]) & set(definitions["metric"]))
    given = [parse_bar(text, present) for text in options.bar]
    bars = list(dict.fromkeys(given)) or default_bars(present)
    in_study = run.description["study"] == "scarcity"
    checked = int(run.description["config"].get("checked_data_seeds", 1)) if in_study else 0
    tables = plan_tables(metrics, definitions, bars, options.level, checked)
    if options.back_test:
        names = [name for name in present if name not in NOT_TESTED]
        tables["back_test"] = back_test_table(metrics, definitions, names, options.level)
    for name, frame in tables.items():
        write_table(run.tables, name, frame)
    if not options.back_test:
        for kind in ("csv", "parquet"):  # of an earlier plan, perhaps of other metrics
            (run.tables / f"{BACK_TEST.name}.{kind}").unlink(missing_ok=True)
    write_json(run.tables / "plan.json", {"metrics": metrics_mark(evaluated)})
    print(plan_text(run), end="")
    left_out = [bar for bar in DEFAULT_BARS if not given and bar not in bars]
    if left_out:
        names = ", ".join(bar.metric for bar in left_out)
        print(f"The run does not measure {names}; there is no plan for that.")
    if in_study and left_out and "worst_error" not in present:
        print(
            "For stability under a linear operator, repeat the command of the run with "
            '--checks "[stability]" --checked_data_seeds 3.'
        )
    if options.back_test:
        print(back_test_text(run), end="")
    print(f"report: {write_report(run)}")
    return 0
