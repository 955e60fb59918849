"""The command line. Heavy imports live inside commands, so that `latens --help` is immediate."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from latens.errors import ConfigError, LatensError
from latens.studies.evaluate_arguments import add_evaluate

STUDIES = ("scarcity", "semisup", "pde", "growth")


class _Parser(argparse.ArgumentParser):
    """Reports its errors as every other error of latens: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(
            "arguments", "a valid command", f"this: {message}", f"See `{self.prog} --help`."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments; those of the process if None.

    Returns:
        Exit code: 0 done, 2 configuration or input at fault, 3 numerical failure, 4 a solver
        that did not reach a usable answer, 130 interrupted. A study whose single fits failed is
        done: they are named at the end and marked in every table.
    """
    try:
        options, rest = _parser().parse_known_args(argv)
        if rest and options.command not in ("run", "evaluate"):
            raise ConfigError(
                "arguments",
                f"those of `latens {options.command}`",
                " ".join(rest),
                f"See `latens {options.command} --help`.",
            )
        return options.call(options, rest)
    except LatensError as error:
        print(f"latens: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("latens: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="latens",
        description="How much data does a learned inverse solver need before you can trust it?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        help="run a study: train, evaluate, report",
        description="Run a study, or finish one that was interrupted. Any setting of the study "
        "is overridden by --name value, with dots for nested ones: --training.max_steps 2000, "
        "--data latens.data.MedMnist --data.path FILE, --models.cvae.dim 64.",
        allow_abbrev=False,
    )
    run.add_argument("study", choices=STUDIES)
    run.add_argument(
        "--preset",
        default="",
        metavar="NAMES",
        help="operator (deblurring, super-resolution, mri, ct, inpainting), data (phantoms, "
        "phantoms-3d, breastmnist, mnist, brain, slices, adrenal, pairs), models (direct) and "
        "budget (quick), such as mri,breastmnist,quick; default: deblurring,phantoms. semisup: "
        "mnist, breastmnist, fashion, ablation, terms, objectives, collapse, quick; default: the "
        "digits of scikit-learn. pde: problem (smooth, piecewise, eit, burgers), "
        "conditions and budget (quick); default: smooth. growth: quick, and with --stage exp1, "
        "exp2 or exp3 also long, wide, data (adrenal, folder) and what keeps latents in use "
        "(free_bits, cycles, capacity, learned_scale)",
    )
    run.add_argument(
        "--study",
        dest="part",
        default="",
        metavar="NAME",
        help="a part of the study, such as ablation for semisup: one more preset",
    )
    run.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="YAML over the presets"
    )
    run.add_argument("--out", metavar="RUN", help="run folder; default: runs/STUDY-PRESETS-HASH")
    run.add_argument("--jobs", type=int, metavar="N", help="processes; default: cores")
    run.add_argument(
        "--trust", action="append", default=[], metavar="PKG", help="allow classes of a package"
    )
    run.add_argument("--show", action="store_true", help="print the configuration and stop")
    run.set_defaults(call=_run)

    report = commands.add_parser("report", help="write report.html and figures of a run again")
    report.add_argument("run", metavar="RUN")
    report.set_defaults(call=_report)

    plan = commands.add_parser(
        "plan",
        help="find the N at which each bar is met, with its interval",
        description="From the learning curves of a run: at which N accuracy and calibration "
        "reach a bar, that they never do, or that the data cannot say. Writes tables/plan.csv "
        "and the report.",
        allow_abbrev=False,
    )
    plan.add_argument("run", metavar="RUN")
    plan.add_argument(
        "--bar",
        action="append",
        default=[],
        metavar="BAR",
        help='in quotes, repeatable: "ace_region<=0.05", "psnr>=25", '
        '"coverage_region=0.92..0.98", "nmse<=1.1*best" (of the best solver at its largest N); '
        "default: a set for calibration, stability and accuracy",
    )
    plan.add_argument(
        "--level", type=float, default=0.9, metavar="P", help="of the intervals; default: 0.9"
    )
    plan.add_argument(
        "--back-test",
        action="store_true",
        help="also compare what the smallest quarter of the sizes foretells with all sizes",
    )
    plan.set_defaults(call=_plan)

    reconstruct = commands.add_parser(
        "reconstruct", help="apply a trained solver to new measurements"
    )
    reconstruct.add_argument("run", metavar="RUN")
    reconstruct.add_argument(
        "file",
        metavar="FILE",
        help="npy: one measurement or a batch; or NIfTI; for semisup images in npz or npy; for "
        "pde a csv with columns x, y, value; for growth a folder of subjects",
    )
    reconstruct.add_argument(
        "--solver", metavar="NAME", help="default: the best ensemble, else posterior"
    )
    reconstruct.add_argument("--n", type=int, metavar="N", help="default: the largest")
    reconstruct.add_argument("--out", metavar="FOLDER", help="default: FILE without its suffix")
    reconstruct.add_argument(
        "--level", type=float, metavar="P", help="default: that of the calibration, or 0.95"
    )
    reconstruct.add_argument(
        "--gate",
        action="store_true",
        help="exit with 4 where the result or one of its measurements should not be used: unlike "
        "the test set in any score, or nothing to compare by; a solver that failed, or that the "
        "trust card calls not consistent, or not calibrated unless its intervals are conformal; "
        "all is written, and marked",
    )
    reconstruct.add_argument(
        "--sigma", type=float, metavar="S", help="noise level of the readings (pde)"
    )
    reconstruct.add_argument(
        "--snr", type=float, metavar="DB", help="the same as a ratio, decibel; default: estimated"
    )
    reconstruct.add_argument("--trust", action="append", default=[], metavar="PKG")
    reconstruct.set_defaults(call=_reconstruct)

    add_evaluate(commands).set_defaults(call=_evaluate)

    forecast = commands.add_parser(
        "forecast",
        help="forecast volumes of new patients, with bands",
        description="From a run of growth and a table of visits (patient, time, volume): median "
        "and 95 % band of the volume at later times, written as CSV.",
    )
    forecast.add_argument("run", metavar="RUN")
    forecast.add_argument(
        "file",
        metavar="FILE",
        help="CSV with the columns of the run's table, or latents of scans by `latens encode`",
    )
    forecast.add_argument(
        "--horizon", required=True, metavar="T,…", help="times after the last visit"
    )
    forecast.add_argument(
        "--forecaster",
        metavar="NAME",
        help="hierarchical_gompertz, latent_ode, the default, or scan_ode, that of latents",
    )
    forecast.add_argument(
        "--conformal",
        action="store_true",
        help="also the band that a run with --conformal true has calibrated",
    )
    forecast.add_argument(
        "--decode",
        metavar="RUN",
        help="run of exp1, exp2 or exp3 that encoded the scans: forecasts as NIfTI beside the CSV",
    )
    forecast.add_argument(
        "--seed", type=int, default=0, metavar="K", help="training of that run; default: 0"
    )
    forecast.add_argument("--out", metavar="CSV", help="default: FILE-forecast.csv")
    forecast.set_defaults(call=_forecast)

    encode = commands.add_parser(
        "encode",
        help="turn scans over time into latents that can be forecast",
        description="From a run of growth, stage exp1, exp2 or exp3, and a folder of subjects "
        "with visits.csv: mean and variances of the latents of every visit, in a file for "
        "`latens run growth --stage ode --latents FILE`. Without a folder: growing phantoms.",
        allow_abbrev=False,
    )
    encode.add_argument("run", metavar="RUN")
    encode.add_argument("subjects", metavar="FOLDER", nargs="?", help="folder of subjects")
    encode.add_argument("--out", required=True, metavar="FILE", help="ends in .safetensors")
    encode.add_argument(
        "--seed", type=int, default=0, metavar="K", help="training of the run; default: 0"
    )
    encode.add_argument(
        "--count", type=int, default=120, metavar="N", help="growing phantoms; default: 120"
    )
    encode.set_defaults(call=_encode)

    data = commands.add_parser("data", help="look at data before using them, fetch public sets")
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="find what is wrong with a folder or file")
    check.add_argument("folder", metavar="FOLDER")
    check.set_defaults(call=_check)
    listing = actions.add_parser("list", help="show the public sets that can be fetched")
    listing.set_defaults(call=_list)
    fetch = actions.add_parser("fetch", help="fetch a public set and verify its checksum")
    fetch.add_argument("name", metavar="NAME", help="as `latens data list` shows it")
    fetch.add_argument("--folder", metavar="DIR", default="data", help="default: data")
    fetch.set_defaults(call=_fetch)
    return parser


def _version() -> str:
    import latens

    return f"latens {latens.__version__}"


def _run(options: argparse.Namespace, overrides: list[str]) -> int:
    if options.study == "growth":
        from latens.studies.growth_command import growth_command

        return growth_command(options, overrides)
    if options.study == "pde":
        from latens.studies.pde.command import run_pde_command

        return run_pde_command(options, overrides)
    from latens.studies.command import run_command

    return run_command(options, overrides)


def _report(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.reporting import write_figures, write_report
    from latens.store import RunFolder

    run = RunFolder.open(options.run)
    if run.description["study"] == "pde":
        from latens.reporting.pde import write_pde_report

        print(write_pde_report(run))
        return 0
    write_figures(run)
    print(write_report(run))
    return 0


def _plan(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.studies.plan_command import plan_command

    return plan_command(options)


def _reconstruct(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.store import RunFolder

    study = RunFolder.open(options.run).description["study"]
    if study == "semisup":
        from latens.studies.semisup.reading import classify_command

        return classify_command(options)
    if study == "pde":
        from latens.studies.pde.reconstruct import reconstruct_field

        return reconstruct_field(options)
    if study == "growth":
        from latens.studies.volumes.reconstruct import reconstruct_scans

        return reconstruct_scans(options)
    from latens.studies.reconstruct import reconstruct_command

    return reconstruct_command(options)


def _evaluate(options: argparse.Namespace, overrides: list[str]) -> int:
    from latens.studies.evaluate_command import evaluate_command

    return evaluate_command(options, overrides)


def _forecast(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.studies.forecast import forecast_command

    return forecast_command(options)


def _encode(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.studies.volumes.encode import encode_command

    return encode_command(options)


def _check(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.data import check_folder

    check = check_folder(Path(options.folder))
    print(check.summary)
    for finding in check.findings:
        print(f"{finding.severity:<8} {finding.file}: {finding.message}")
    return 2 if check.errors else 0


def _list(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.data.published import PUBLISHED

    for name, published in PUBLISHED.items():
        print(f"{name:<20} {published.description}; {published.licence}")
    return 0


def _fetch(options: argparse.Namespace, rest: list[str]) -> int:
    from latens.data.fetch import fetch, find, usage

    paths = fetch(options.name, options.folder, say=print)
    print(f"cite: {find(options.name).citation}")
    print(f"use:  latens run scarcity {usage(options.name, paths)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
