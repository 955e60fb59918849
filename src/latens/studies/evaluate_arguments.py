"""Arguments of `latens evaluate`. Nothing heavy is imported: every `latens --help` reads this."""

import argparse
from typing import Any


def add_evaluate(commands: Any) -> argparse.ArgumentParser:
    """Add the command to those of a parser."""
    evaluate: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="evaluate reconstructions of another program against truth",
        description="The numbers of latens, each with its interval, for reconstructions that lie "
        "on disk, and a report. A FILE is an npy or npz array with the image axis first (write "
        "x.npz:NAME for one of several), or a folder with an npy or NIfTI file per image. Several "
        "calls with one RUN, each with its --n and --data_seed, make learning curves for "
        "`latens report` and `latens plan`.",
        allow_abbrev=False,
    )
    evaluate.add_argument("run", metavar="RUN", help="run folder: new, or of earlier calls")
    files = evaluate.add_argument_group("reconstructions and truth")
    files.add_argument(
        "--truth", metavar="FILE", required=True, help="(n, H, W) or (n, C, *spatial)"
    )
    files.add_argument("--mean", metavar="FILE", help="point reconstructions, as the truth")
    files.add_argument(
        "--std", metavar="FILE", help="their standard deviations: calibration of pixels alone"
    )
    files.add_argument(
        "--draws",
        metavar="FILE",
        help="posterior draws (S, n, C, *spatial), S ≥ 39; or a folder with a sub-folder per "
        "draw, or with an npy file (S, C, *spatial) per image",
    )
    files.add_argument(
        "--groups",
        metavar="FILE",
        help="patient of each image, a label per line, or file,group for a folder: intervals "
        "resample patients",
    )
    files.add_argument(
        "--reference",
        metavar="FILE",
        help="other images of the same kind, for calibration along principal directions",
    )
    files.add_argument(
        "--data_range",
        "--data-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="of images of this kind, for PSNR and SSIM; default: that of the truth",
    )
    held = evaluate.add_argument_group(
        "held-out images, neither trained on nor evaluated: intervals with a promise"
    )
    for name, words in (
        ("truth", "as --truth"),
        ("mean", "what the solver makes of them, as --mean"),
        ("std", "as --std"),
        ("draws", "as --draws, as many for an image"),
        ("groups", "as --groups: a patient counts once"),
    ):
        held.add_argument(
            f"--calibration_{name}", f"--calibration-{name}", metavar="FILE", help=words
        )
    held.add_argument(
        "--conformal",
        metavar="METHOD",
        help="crc, rcps, split, cqr or simultaneous; default: crc, which needs 19 images or "
        "patients",
    )
    place = evaluate.add_argument_group("place in a learning curve")
    place.add_argument("--name", metavar="NAME", default="solver", help="default: solver")
    place.add_argument(
        "--n", metavar="N", type=int, default=0, help="training pairs; default: 0, none or unknown"
    )
    for seed, words in (("data", "which training set of this size"), ("init", "which training")):
        place.add_argument(
            f"--{seed}_seed",
            f"--{seed}-seed",
            metavar="K",
            type=int,
            default=0,
            help=f"{words}; default: 0",
        )
    place.add_argument(
        "--replace", action="store_true", help="drop what was evaluated at this place before"
    )
    problem = evaluate.add_argument_group("measurements, for the data residual and checks")
    problem.add_argument("--measurements", metavar="FILE", help="(n, *measurement)")
    problem.add_argument(
        "--operator",
        metavar="CLASS",
        help="such as latens.problems.GaussianBlur, its settings as --operator.width 1.5",
    )
    problem.add_argument(
        "--noise",
        metavar="CLASS",
        help="such as latens.problems.GaussianNoise, with --noise.scale 0.05",
    )
    problem.add_argument(
        "--checks", metavar="LIST", help='deep checks: "[calibration,null_space]"'
    )
    problem.add_argument(
        "--checked_images", "--checked-images", metavar="K", help="of each check; default: 50"
    )
    problem.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="YAML of these settings"
    )
    problem.add_argument(
        "--trust", action="append", default=[], metavar="PKG", help="allow classes of a package"
    )
    return evaluate
