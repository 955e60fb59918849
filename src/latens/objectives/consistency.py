"""Operator consistency: reconstructions that are measured again should give the measurement.

    λ · E ‖Σ^{-1/2} (y − E[y | x̂])‖² / m,   E[y | x̂] = F(x̂) for additive noise

added to the loss in nats per element (after the division by D). With weight λ = m/(2D) it counts
log p(y | x̂) once, beside a log-likelihood of x of which the posterior already knows that term.

**It is not free.** Let x ~ N(0, C), y = A x + N(0, Σ), S = A C Aᵀ + Σ and K = C Aᵀ S⁻¹. The
posterior mean m(y) = K y has the residual y − A m = Σ S⁻¹ y, and so the expected misfit

    E ‖Σ^{-1/2} (y − A m)‖² / m = tr(Σ S⁻¹) / m = 1 − tr(A K) / m  <  1,

one minus the share of measured elements that the data, and not the prior, determine. A draw of
the exact posterior has expected misfit 1, as the true signal has. The term pulls both to 0, at
any number of pairs. For regression with a fixed σ the optimum is, for each y by itself,

    f(y) = m(y) + (P + Aᵀ Σ⁻¹ A)⁻¹ Aᵀ Σ⁻¹ (y − A m(y)),   P = m / (2 λ σ² D) · I:

the posterior mean moved towards fitting the noise. A singular direction of A with singular value
a and noise s keeps the share 1 − κ of the prior's shrinkage, κ = (a/s)² / (P + (a/s)²); directions
in the null space of A keep the posterior mean. λ → ∞ gives a pseudo-inverse wherever anything was
measured. The term therefore helps where the networks are further from m(y) than this bias: with
few pairs, and small λ. Draws of a latent model become too certain in measured directions.
"""

from torch import Tensor

from latens.problems import InverseProblem


def data_misfit(problem: InverseProblem, y: Tensor, reconstruction: Tensor) -> Tensor:
    """‖Σ^{-1/2} (y − E[y | x̂])‖²/m with Σ = Var[y | x̂], the value of `InverseProblem.chi2`.

    Its gradient takes Σ as a constant: otherwise a reconstruction could lower the misfit by
    moving to where noise that depends on the signal is strong.

    Args:
        problem: Operator and noise.
        y: Measurement, `(B, *measurement_shape)`.
        reconstruction: x̂, `(B, *signal_shape)`.

    Returns:
        Dimensionless, `(B,)`, mean over the m elements of a measurement.

    Raises:
        ShapeError: If `reconstruction` does not fit the operator.
    """
    measured = problem.noise.elementwise(problem.operator(reconstruction))
    residual = (y - measured.mean) / measured.stddev.detach()
    return residual.square().flatten(1).mean(1)
