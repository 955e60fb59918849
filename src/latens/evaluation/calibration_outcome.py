"""What the calibration tests of a solver found: a list of tests, a verdict, a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from latens.metrics import (
    PopulationTest,
    area_to_curve,
    ecdf_band,
    rank_counts,
)
from latens.store.schemas import POWER, RANK_CURVES, REJECTS, TESTS
from latens.store.tables import from_rows

if TYPE_CHECKING:
    import pandas as pd

    from latens.evaluation.evaluate import Cell

Source = Literal["data", "model"]

LEVEL = 0.05
"""Chance of one false alarm or more among all tests of one set of pairs."""

AREAS = ("TARP near A⁺y", "TARP independent", "log q(x | y)", "log q(z | y)")
"""Families whose small ranks mean a small region."""


@dataclass(frozen=True)
class CalibrationTests:
    """Tests of one solver on one set of pairs.

    Attributes:
        source: "data" (held-out) or "model" (simulated from the solver's own).
        tests: All tests.
        ranks: Ranks of the truth in each family, `(n, k)`, in {0, …, M}.
        images: Position of each image that was used.
        draws: M.
        untrusted: Images whose estimate is not to be trusted.
        note: What else there is to know.
        power: Kind of wrong posterior → share of times in which the tests of ranks would have
            found it on these images; see `latens.evaluation.sight`.
    """

    source: Source
    tests: tuple[PopulationTest, ...]
    ranks: Mapping[str, NDArray[np.int64]] = field(repr=False)
    images: tuple[int, ...] = field(repr=False)
    draws: int
    untrusted: int = 0
    note: str = ""
    power: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def p_adjusted(self) -> NDArray[np.float64]:
        """p-value of each test, adjusted for all of them."""
        return np.array([test.p_adjusted for test in self.tests])

    @property
    def rejected(self) -> tuple[PopulationTest, ...]:
        """Tests with an adjusted p-value of `REJECTS` or less, smallest first."""
        own = np.array([test.p_value for test in self.tests])
        order = np.lexsort((own, self.p_adjusted))
        return tuple(self.tests[i] for i in order if self.p_adjusted[i] <= REJECTS)

    @property
    def areas(self) -> dict[str, float]:
        """Signed area to the curve of expected coverage of TARP and of highest density."""
        return {
            name: float(area_to_curve(torch.from_numpy(ranks[:, 0]), self.draws).mean())
            for name, ranks in self.ranks.items()
            if name in AREAS
        }

    @property
    def verdict(self) -> str:
        """One line in plain words."""
        kind = {"data": "held-out pairs", "model": "pairs of its own model"}[self.source]
        source = f"on {len(self.images)} {kind}"
        if not self.rejected:
            smallest = float(self.p_adjusted.min())
            return (
                f"no miscalibration found {source} with {self.draws} draws: none of "
                f"{len(self.tests)} tests rejects at 5 % after adjustment "
                f"(smallest p {smallest:.2g})"
            )
        worst = self.rejected[0]
        names = dict.fromkeys(test.quantity for test in self.rejected)
        lean = _lean(self.ranks, [test.quantity for test in self.rejected], self.draws)
        return (
            f"not calibrated {source}: {len(self.rejected)} of {len(self.tests)} tests reject at "
            f"5 % after adjustment ({', '.join(names)}); clearest in {worst.quantity} by "
            f"{worst.test}, adjusted p {float(self.p_adjusted.min()):.2g}{lean}"
        )

    @property
    def sight(self) -> str:
        """One line: what these tests would have found; empty where it was not measured."""
        if not self.power:
            return ""
        kinds = "; ".join(f"{kind} {100 * power:.0f} %" for kind, power in self.power.items())
        return f"a posterior like this one but wrong would have been found: {kinds}"

    def table(self, cell: "Cell") -> "pd.DataFrame":
        """One row per test.

        Args:
            cell: Name of the solver and its place in a sweep.
        """
        records = [
            {
                **cell.place,
                "test": f"{self.source}: {test.test}",
                "quantity": test.quantity,
                "statistic": test.statistic,
                "p_value": test.p_value,
                "p_adjusted": float(adjusted),
                "images": test.images,
                "draws": test.draws,
                "evaluation": cell.evaluation,
            }
            for test, adjusted in zip(self.tests, self.p_adjusted, strict=True)
        ]
        return from_rows(records, TESTS)

    def seen(self, cell: "Cell") -> "pd.DataFrame":
        """Power by kind of wrong posterior, in the schema `POWER`; empty where not measured.

        Args:
            cell: Name of the solver and its place in a sweep.
        """
        records = [
            {
                **cell.place,
                "source": self.source,
                "posterior": kind,
                "power": power,
                "images": len(self.images),
                "draws": self.draws,
                "evaluation": cell.evaluation,
            }
            for kind, power in self.power.items()
        ]
        return from_rows(records, POWER)

    def curves(self, cell: "Cell") -> "pd.DataFrame":
        """ECDFs of the ranks less what is expected, in the schema `RANK_CURVES`.

        Of a family with several numbers the lowest and the highest of its curves. Its band has
        the level 1 − 0.05/members for each, so that with 95 % or more it holds all of them.

        Args:
            cell: Name of the solver and its place in a sweep.
        """
        records = []
        expected = np.arange(1, self.draws + 1) / (self.draws + 1)
        for quantity, ranks in self.ranks.items():
            images, members = ranks.shape
            below = rank_counts(ranks, self.draws).cumsum(-1)[:, :-1]  # (members, M)
            curves = below / images - expected
            band = ecdf_band(images, self.draws, 1 - LEVEL / members)
            columns = (curves.min(0), curves.max(0), *band)
            for k, (lowest, highest, lower, upper) in enumerate(zip(*columns, strict=True), 1):
                records.append(
                    {
                        **cell.place,
                        "source": self.source,
                        "quantity": quantity,
                        "members": members,
                        "below": k,
                        "lowest": float(lowest),
                        "highest": float(highest),
                        "band_lower": float(lower),
                        "band_upper": float(upper),
                        "level": 1 - LEVEL,
                        "images": images,
                        "draws": self.draws,
                        "evaluation": cell.evaluation,
                    }
                )
        return from_rows(records, RANK_CURVES)

    def __str__(self) -> str:
        lines = [text for text in (self.verdict, self.sight, self.note) if text]
        for test, adjusted in zip(self.tests, self.p_adjusted, strict=True):
            mark = "*" if adjusted <= REJECTS else " "
            lines.append(
                f" {mark} {test.quantity:<26} {test.test:<16} p {test.p_value:<8.3g} "
                f"adjusted {adjusted:.3g}"
            )
        return "\n".join(lines)


_LINEAR = ("pixels", "regions", "principal", "null space", "latents")


def _lean(ranks: Mapping[str, NDArray[np.int64]], quantities: Sequence[str], draws: int) -> str:
    """Which way the ranks of a linear family lean, as the end of a sentence."""
    for name in _LINEAR:
        if not any(quantity.startswith(f"{name} (") for quantity in quantities):
            continue
        place = 2 * ranks[name] / draws - 1  # uniform on −1 … 1
        even = np.arange(draws + 1) * 2 / draws - 1
        outward = np.abs(place).mean() - np.abs(even).mean()
        noise = np.abs(even).std() / np.sqrt(len(place))
        if abs(outward) > 2 * noise:
            how = "too close together" if outward > 0 else "too far apart"
            return f"; the draws of {name} are {how}"
    return ""
