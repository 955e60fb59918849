"""The farthest point of an ellipsoid, exactly: the worst disturbance of a linear reconstruction.

    max ‖M u + r‖   over ‖u‖ ≤ ε

With M = U diag(s) Vᵀ the maximiser satisfies (λ − s²) v_i = s_i (Uᵀr)_i for one λ ≥ s₁², and λ is
the root of the secular equation

    Σ_i (s_i c_i / (λ − s_i²))² = ε²,   c = Uᵀ r,

which falls on (s₁², ∞) from ∞ to 0 if c₁ ≠ 0: the "hard case" c₁ = 0 is refused.

Golub, Van Loan (2013), Matrix Computations, section 6.2.1.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[np.float64]


def farthest(matrix: Array, offset: Array, radius: float) -> tuple[float, Array]:
    """Largest ‖M u + r‖ and its u, in float64.

    Args:
        matrix: M, `(d, m)`.
        offset: r, `(d,)`.
        radius: ε.
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    weights = values * (left.T @ offset)
    squares = values**2
    assert abs(weights[0]) > 1e-12 * np.abs(weights).max(), "hard case"

    def excess(shift: float) -> float:
        return np.linalg.norm(weights / (shift + squares[0] - squares)) - radius

    low = abs(weights[0]) / radius  # one term alone is already too large below
    high = np.linalg.norm(weights) / radius
    shift = brentq(excess, low * (1 - 1e-12), high * (1 + 1e-12), xtol=1e-300, rtol=1e-14)
    u = right.T @ (weights / (shift + squares[0] - squares))
    return float(np.linalg.norm(matrix @ u + offset)), u
