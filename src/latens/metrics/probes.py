"""What can be read from latents: probes fitted on some subjects, judged on others.

    R² = 1 − Σ (t − t̂)² / Σ (t − t̄)²      over held-out subjects; below 0 the probe is worse
                                            than their mean

A part of a latent vector *leaks* a quantity to the degree that a probe reads it there. A linear
probe sees linear leakage alone; the kernel probe sees smooth dependence of any shape. A small R²
says that these probes found nothing, which is as much as a finite sample can say.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latens.errors import ShapeError

Array = NDArray[np.float64]
Probe = Literal["ridge", "kernel"]

PENALTIES = np.logspace(-3, 5, 17)
"""Ridge penalties that leave-one-out chooses from, for standardised features."""
WIDTHS = (0.1, 0.3, 1.0)
"""Inverse squared widths of the kernel, in units of one over the number of features."""
KERNEL_PENALTIES = (0.03, 0.3, 3.0)
FOLDS = 3


def probe(kind: Probe, features: Array, targets: Array, held_out: Array) -> Array:
    """Predictions for held-out subjects.

    Args:
        kind: `ridge`, or `kernel` ridge regression with a Gaussian kernel, its width and penalty
            chosen by cross-validation inside the fitting subjects.
        features: Latents of the fitting subjects, `(n, k)`.
        targets: Quantities of the fitting subjects, `(n, T)`, all known.
        held_out: Latents of the others, `(m, k)`.

    Returns:
        `(m, T)`, in the unit of the targets.

    Raises:
        ShapeError: If the arrays do not fit.
    """
    fits = features.ndim == targets.ndim == held_out.ndim == 2
    if not fits or len(features) != len(targets) or features.shape[1] != held_out.shape[1]:
        raise ShapeError(
            "features, targets, held_out",
            "(n, k), (n, T) and (m, k)",
            (features.shape, targets.shape, held_out.shape),
            "Give one row per subject.",
        )
    loc, scale = features.mean(0), features.std(0)
    unit = np.where(scale > 0, scale, 1.0)
    inside, outside = (features - loc) / unit, (held_out - loc) / unit
    middle, spread = targets.mean(0), targets.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    standard = (targets - middle) / spread
    if kind == "ridge":
        from sklearn.linear_model import RidgeCV

        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(inside, standard)
        return model.predict(outside).reshape(len(held_out), -1) * spread + middle
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV

    grid = {"gamma": [w / features.shape[1] for w in WIDTHS], "alpha": list(KERNEL_PENALTIES)}
    columns = []
    for column in standard.T:
        search = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=FOLDS).fit(inside, column)
        columns.append(search.predict(outside))
    return np.stack(columns, 1) * spread + middle


def explained_rows(predicted: Array, truth: Array) -> Array:
    """Per subject, what R² is a function of the means of: (t − t̂)², t, t², `(m, 3T)`."""
    centred = truth - truth.mean(0)  # the origin does not matter, and squares stay small
    return np.concatenate([(truth - predicted) ** 2, centred, centred**2], axis=1)


def explained(means: Array) -> Array:
    """R², mean over the T quantities, of means `(R, 3T)` of `explained_rows`, `(R,)`."""
    error, first, second = np.split(means, 3, axis=1)
    return (1 - error / (second - first**2)).mean(axis=1)
