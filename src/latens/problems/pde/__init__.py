"""Reference solutions of partial differential equations, as differentiable operators."""

from latens.problems.pde.burgers import Burgers
from latens.problems.pde.darcy import Darcy
from latens.problems.pde.eit import EIT
from latens.problems.pde.grid import Grid

__all__ = ["EIT", "Burgers", "Darcy", "Grid"]
