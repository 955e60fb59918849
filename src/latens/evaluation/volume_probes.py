"""What the latents of held-out volumes tell of known quantities: all of them, parts, and the rest.

The decoder is given draws of q(z | x), and whoever has the encoder has means and σ. So three
things are probed for what the rest tells: its means (`leak`), its means and log σ (`sigma_leak`),
and a draw (`draw_leak`). Means alone may tell nothing while σ does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np
import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.evaluation.intervals import Interval, bootstrap_interval
from latens.metrics.probes import Array, Probe, explained, explained_rows, probe
from latens.models.partitioned import REST, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.objectives.dependence import distance_correlation

PROBES: tuple[Probe, ...] = ("ridge", "kernel")
FOLDS = 5
"""Folds of held-out subjects for the probes that are fitted on held-out subjects."""
LEAKS = ("leak", "sigma_leak", "draw_leak")
"""Metrics of what the rest tells, one for each thing that it is read from."""
LEAST_SPREAD = 1e-6
"""Standard deviation of log σ over volumes below which it does not vary but by rounding."""


@dataclass(frozen=True)
class Posteriors:
    """q(z | x) of the volumes that probes are fitted on and of the held-out ones.

    Attributes:
        fitting_loc, fitting_scale: Means and standard deviations, `(n, dim)`.
        loc, scale: Those of the held-out volumes, `(m, dim)`.
    """

    fitting_loc: Tensor
    fitting_scale: Tensor
    loc: Tensor
    scale: Tensor

    def sources(self, part: slice, seed: int) -> dict[str, tuple[Array, Array]]:
        """What a part is read from, by metric of `LEAKS`: fitting and held-out rows.

        Args:
            part: Latents.
            seed: Key of the draws.
        """
        found = {"leak": (_array(self.fitting_loc[:, part]), _array(self.loc[:, part]))}
        spread = [_array(s[:, part]).clip(1e-30) for s in (self.fitting_scale, self.scale)]
        logs = [np.log(values) for values in spread]
        varies = np.concatenate(logs).std(0) > LEAST_SPREAD
        both = zip(found["leak"], logs, strict=True)
        there, here = (np.concatenate([loc, log[:, varies]], 1) for loc, log in both)
        found["sigma_leak"] = there, here
        draws = []
        for which, (loc, scale) in enumerate(zip(found["leak"], spread, strict=True)):
            noise = NoiseStream(seed, Purpose.LATENT, 0, which).normal(loc.shape, torch.float64)
            draws.append(loc + scale * noise.numpy())
        found["draw_leak"] = draws[0], draws[1]
        return found


def read_parts(
    model: VolumeVAE,
    posteriors: Posteriors,
    fitting_targets: Mapping[str, Tensor],
    test_targets: Mapping[str, Tensor],
    groups: Sequence[str],
    seed: int,
) -> dict[str, Interval]:
    """R² of known parts: by probes of all latents, by the aligned part, by probes of `rest`.

    Args:
        model: Trained model.
        posteriors: What it says of the volumes.
        fitting_targets: Quantities of the fitting volumes by part, `(n, T)`; NaN where unknown.
        test_targets: Those of the held-out volumes, of the parts that are read.
        groups: Subject of each held-out volume.
        seed: Key of the draws.

    Returns:
        Interval by metric: see `latens.evaluation.volumes.assess_volumes`.
    """
    values: dict[str, Interval] = {}
    names, test = np.asarray(groups), posteriors.loc
    aligned = predicted_parts(model, test)
    sources = {"r2": (_array(posteriors.fitting_loc), _array(test))}
    if isinstance(model, PartitionedVAE):
        sources |= posteriors.sources(model.parts[REST], seed)
    for name, truth in test_targets.items():
        known_here = torch.isfinite(truth).all(1).numpy()
        known_there = torch.isfinite(fitting_targets[name]).all(1).numpy()
        t, own = _array(truth)[known_here], names[known_here]
        learned = _array(fitting_targets[name])[known_there]
        rated: dict[str, Interval] = {}
        for metric, (there, here) in sources.items():
            if metric != "sigma_leak" or there.shape != sources["leak"][0].shape:
                # Otherwise no σ varies, and what the means tell, `rated`, is all there is.
                rated = _rated(there[known_there], learned, here[known_here], t, own)
            for kind, interval in rated.items():
                values[f"{metric}_{name}_{kind}"] = interval
            values[f"{metric}_{name}"] = max(rated.values(), key=lambda found: found.value)
        if name in aligned and isinstance(model, PartitionedVAE):
            values[f"aligned_{name}"] = _interval(_array(aligned[name])[known_here], t, own)
            other, rest = model.part(name, test), model.part(REST, test)
            dependence = float(distance_correlation(rest.double(), other.double()))
            count = len(set(names.tolist()))
            values[f"dependence_{name}"] = Interval(dependence, nan, nan, 0.95, len(test), count)
    return values


def _rated(
    there: Array, learned: Array, here: Array, truth: Array, groups: np.ndarray
) -> dict[str, Interval]:
    """R² of every probe, fitted on training subjects or on the other held-out ones."""
    rated = {}
    for kind in PROBES:
        rated[kind] = _interval(probe(kind, there, learned, here), truth, groups)
        within = predicted_within(kind, here, truth, groups)
        rated[f"{kind}_within"] = _interval(within, truth, groups)
    return rated


def predicted_within(kind: Probe, features: Array, targets: Array, groups: np.ndarray) -> Array:
    """Predictions for every held-out volume by a probe of the other held-out subjects.

    Training subjects may have been made independent one by one; those the model never saw tell
    what it does to new ones.
    """
    names = sorted(set(groups.tolist()))
    fold = {name: k % FOLDS for k, name in enumerate(names)}
    mine = np.asarray([fold[name] for name in groups.tolist()])
    found = np.empty_like(targets)
    for k in range(FOLDS):
        inside, outside = mine != k, mine == k
        if outside.any():
            found[outside] = probe(kind, features[inside], targets[inside], features[outside])
    return found


def predicted_parts(model: VolumeVAE, loc: Tensor) -> dict[str, Tensor]:
    """Quantities that the aligned latents stand for, by part; none without parts."""
    if not isinstance(model, PartitionedVAE):
        return {}
    quantities = model.predicted_targets(loc)
    return {name: quantities[:, s] for name, s in model.parts.items() if name != REST}


def _interval(predicted: Array, truth: Array, groups: Sequence[object] | np.ndarray) -> Interval:
    rows = explained_rows(predicted, truth)
    return bootstrap_interval(rows, groups, explained, support=(-inf, 1.0))


def _array(values: Tensor) -> Array:
    return values.double().numpy(force=True)
