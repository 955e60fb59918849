"""Differences of operator consistency, paired over data seeds, from the tables of its study.

python benchmarks/consistency.py
"""

from pathlib import Path

import pandas as pd
from scipy.stats import t

METRICS = Path(__file__).resolve().parent / "data" / "consistency" / "metrics.csv"


def main() -> None:
    """Print mean, half of its 95 % interval and every difference, with − without."""
    table = pd.read_csv(METRICS)
    wide = table.pivot_table(
        index=["metric", "n", "data_seed", "init_seed"], columns="solver", values="value"
    )
    for metric in ("psnr", "data_chi2"):
        for model in ("unet", "cvae"):
            difference = wide.loc[metric, f"{model}_0.2"] - wide.loc[metric, model]
            for n, values in difference.dropna().groupby("n"):
                each = ", ".join(f"{value:+.2f}" for value in values)
                half = t.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
                print(
                    f"{metric:10} {model:5} N = {n:4}: {values.mean():+.2f} ± {half:.2f} ({each})"
                )


if __name__ == "__main__":
    main()
