"""Strong residuals of the partial differential equations, from derivatives at points.

| equation | residual | coordinates |
|---|---|---|
| diffusion | −a Δu − ∇a · ∇u − f | (x, y) |
| diffusion, divided by a | −Δu − ∇log a · ∇u − f/a | (x, y) |
| Burgers | ∂u/∂t + u ∂u/∂x − ν ∂²u/∂x² | (x, t) |

The second form is that of impedance tomography, where f = 0 and only the shape of a matters.
"""

from torch import Tensor

from latens.nets.jets import Jet


def diffusion_residual(coefficient: Jet, solution: Jet, source: float | Tensor) -> Tensor:
    """−∇·(a ∇u) − f at points.

    Args:
        coefficient: a, value `(..., P)`, first derivatives `(..., 2, P)`.
        solution: u, of leading axes that broadcast with those of a.
        source: f, a number or `(..., P)`.

    Returns:
        `(..., P)`, units of f.
    """
    drift = (coefficient.first * solution.first).sum(-2)
    return -coefficient.value * solution.laplacian - drift - source


def laplace_residual(coefficient: Jet, solution: Jet) -> Tensor:
    """−Δu − ∇log a · ∇u at points, `(..., P)`, units of u per length².

    Args:
        coefficient: a, positive, value `(..., P)`.
        solution: u, of leading axes that broadcast with those of a.
    """
    return diffusion_residual(coefficient, solution, 0.0) / coefficient.value


def burgers_residual(solution: Jet, viscosity: float) -> Tensor:
    """∂u/∂t + u ∂u/∂x − ν ∂²u/∂x² at points (x, t), `(..., P)`, units of u per time.

    Args:
        solution: u, derivatives along x first.
        viscosity: ν.
    """
    along_x, along_t = solution.first.unbind(-2)
    return along_t + solution.value * along_x - viscosity * solution.second[..., 0, :]
