"""Ranks of truths among draws: of simulated fields, and of the test fields.

*Simulation-based calibration* asks whether a way finds the posterior that it declares: latents
are drawn from the model's own prior (ρ = 0: the prior is N(0, I) and nothing is weighted),
readings from its likelihood, and the latents' rank among draws of the posterior is uniform if the
way is right, whatever the model is worth. Ranked are the decoded coefficient at nodes, its mean
and its contrast, and log p(y | z), which depends on the data: a posterior that ignores its
readings passes the others.

*Data calibration* ranks the true coefficient of test fields, solved by finite elements, among
draws that carry the model's errors. It asks whether model, prior and way together are right.

Fields whose own diagnosis failed are left out, unless they are half of all or more: their number
stands beside the tests.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.evaluation.calibration import Values, uniformity_tests, usable_rows
from latens.evaluation.calibration_outcome import CalibrationTests, Source
from latens.inference import DEFAULT_DRAWS, Estimate
from latens.inference.fields import DeclaredReadings, FieldPosterior, ReadingsPosterior
from latens.inference.fields.target import standard_log_prob
from latens.models.igno import IGNO
from latens.studies.pde.invert import Instrument, inverted
from latens.studies.pde.study import POINTS, SOLVING, InversionName, Pde

NODES = 9
"""Nodes whose values are ranked, evenly chosen."""
SIMULATED = 3 * 10**6
"""Key of the first simulated field."""

Quantities = dict[str, Tensor]
"""Family → numbers of truth and draws, `(M + 1, B, k)`, the truth first."""


class Ranks:
    """Numbers of truths and draws of several ways, gathered block by block."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[str, list[np.ndarray]]] = {}
        self._trusted: dict[str, list[np.ndarray]] = {}

    def add(self, way: str, found: Mapping[str, Tensor], estimate: Estimate) -> None:
        """Keep the numbers of a block."""
        mine = self._parts.setdefault(way, {})
        for name, numbers in found.items():
            mine.setdefault(name, []).append(numbers.double().numpy(force=True))
        rows, size = estimate.trusted, next(iter(found.values())).shape[1]
        usable = np.ones(size, bool) if rows is None else rows.numpy(force=True)
        self._trusted.setdefault(way, []).append(usable)

    def tests(self, source: Source, seed: int) -> Iterator[tuple[str, CalibrationTests]]:
        """Tests of every way with 20 fields or more."""
        for way, parts in self._parts.items():
            trusted = np.concatenate(self._trusted[way])
            if len(trusted) < LEAST:
                continue
            kept, untrusted = usable_rows(trusted)
            values: Values = {
                name: np.concatenate(p, axis=1)[:, kept] for name, p in parts.items()
            }
            tests, ranks = uniformity_tests(values, np.random.default_rng([seed, 2]))
            fields = tuple(kept.tolist())
            yield (
                way,
                CalibrationTests(source, tests, ranks, fields, DEFAULT_DRAWS, untrusted),
            )


LEAST = 20
"""Fewest fields that are tested; of them more than half may remain."""


def of_fields(members: Tensor) -> Quantities:
    """Values at nodes, mean and contrast of fields `(M + 1, B, *signal_shape)`."""
    flat = members.flatten(2)
    nodes = np.unique(np.linspace(0, flat.shape[2] - 1, NODES + 2).astype(int))[1:-1]
    return {
        "values at nodes": flat[..., nodes],
        "mean of the field": flat.mean(-1, keepdim=True),
        "contrast of the field": flat.std(-1, keepdim=True),
    }


@torch.no_grad()
def of_latents(posterior: FieldPosterior, z: Tensor) -> Quantities:
    """Numbers of the decoded coefficient and log p(y | z), the truth at `z`, `(B, dim)`."""
    target = posterior.target
    v = torch.cat([z[None], posterior.positions(DEFAULT_DRAWS)])  # (M + 1, B, dim)
    decoded = torch.stack([target.model.decode(target.latents(row)).mean for row in v])
    likelihood = target.of_positions(v.transpose(0, 1)).mT - standard_log_prob(v)
    return of_fields(decoded) | {"log p(y | z)": likelihood[..., None]}


def simulated_ranks(
    study: Pde,
    model: IGNO,
    made: Instrument,
    network: ReadingsPosterior | None,
    snr: float,
    say: Callable[[str], None] = lambda line: None,
) -> Ranks:
    """Ranks of simulated latents by every way without a solver.

    Args:
        study: Settings.
        model: Trained model.
        made: Predictors of the sensors.
        network: Of the ways `amortised` and `refined`.
        snr: Signal-to-noise ratio, decibel.
        say: Told a line when a way of a block ends.
    """
    settings, ranks = study.inversion, Ranks()
    names: list[InversionName] = [n for n in settings.solvers if n not in (*SOLVING, *POINTS)]
    if not names or settings.simulated < LEAST:
        return ranks
    declared = DeclaredReadings(model, *made.predictor(False), 10 ** (-snr / 20))
    stream = NoiseStream(study.seed, Purpose.SIMULATION, SIMULATED)
    z, y, scale = declared.simulate(settings.simulated, stream)
    for part, mine in settings.blocks(names, len(z)):
        keys = [SIMULATED + k for k in range(part.start, part.stop)]
        found = inverted(study, model, made, network, y[part], scale[part], keys, mine)
        for name, estimate, took in found:
            say(f"  {name}: {part.stop} of {len(z)} simulated fields, {took:.0f} s")
            assert isinstance(estimate, FieldPosterior)
            ranks.add(name, of_latents(estimate, z[part]), estimate)
    return ranks
