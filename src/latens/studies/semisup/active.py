"""Active learning as units of the sweep: each round is a fit that needs the round before."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from latens.data.propagation import Propagation
from latens.evaluation.acquisition import Acquisition, acquire
from latens.models.mixture import MixtureVAE
from latens.store import RunFolder, read_json
from latens.studies.semisup.study import Semisup
from latens.studies.units import FitUnit


@dataclass(frozen=True)
class RoundUnit(FitUnit):
    """A fit whose new labels were chosen with the help of an earlier fit.

    Attributes:
        acquisition: How they were chosen.
        previous: The fit of the round before.
    """

    acquisition: Acquisition
    previous: FitUnit

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the weights."""
        return {
            **FitUnit.identity.func(self),
            "acquisition": self.acquisition,
            "previous": self.previous.hash,
        }

    @property
    def needs(self) -> tuple[str, ...]:
        """The fit of the round before."""
        return (self.previous.hash,)


def rounds(start: FitUnit, sizes: list[int], acquisition: Acquisition) -> list[FitUnit]:
    """The chain of fits from a drawn start to the last number of labels.

    Args:
        start: Fit with labels drawn without a model; the same for every acquisition.
        sizes: Numbers of labels of the later rounds, ascending.
        acquisition: How new labels are chosen.
    """
    chain: list[FitUnit] = [start]
    for n in sizes:
        chain.append(
            RoundUnit(
                start.setting,
                start.name,
                start.model,
                n,
                start.data_seed,
                start.init_seed,
                acquisition,
                chain[-1],
            )
        )
    return chain


def labelled_before(run: RunFolder, unit: FitUnit) -> np.ndarray:
    """Labelled positions of a finished fit."""
    return np.asarray(read_json(run.fit(unit.hash) / "fit.json")["labelled"], dtype=np.int64)


def rows_of_round(
    study: Semisup, run: RunFolder, unit: RoundUnit, model: MixtureVAE
) -> np.ndarray:
    """Labelled positions of a round: those of the round before, and the new ones.

    Args:
        study: The study.
        run: Where the round before lies.
        unit: The round.
        model: The model of the round before.
    """
    before = labelled_before(run, unit.previous)
    count = unit.n - len(before)
    similarity = study.propagation or Propagation()
    choice = unit.acquisition, unit.data_seed, similarity
    new = acquire(model, study.corpus.x, before, count, *choice)
    return np.sort(np.concatenate([before, new]))
