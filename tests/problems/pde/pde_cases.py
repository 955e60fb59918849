"""Operators of partial differential equations that the property tests run over."""

import torch
from torch import Tensor

from latens.problems.pde import EIT, Burgers, Darcy
from problems.operator_cases import normal

SENSORS = [[0.5, 0.25], [0.31, 0.77], [0.98, 0.61], [0.02, 0.04], [0.75, 0.5]]
RING = [0.0, 0.11, 0.503, 0.77, 0.999]

OPERATORS = {
    "darcy": lambda: Darcy((1, 7, 6)),
    "darcy-sensors": lambda: Darcy((1, 6, 6), SENSORS),
    "darcy-element": lambda: Darcy((1, 5, 7), SENSORS, coefficient="element"),
    "darcy-refined": lambda: Darcy((1, 5, 4), refine=3),
    "darcy-one-unknown": lambda: Darcy((1, 3, 3)),
    "darcy-two-columns": lambda: Darcy((1, 5, 4)),
    "eit": lambda: EIT((1, 6, 6)),
    "eit-few": lambda: EIT((1, 5, 7), [1, 13, 20]),
    "eit-refined": lambda: EIT((1, 4, 5), [2, 3, 5, 7, 11], refine=2),
    "eit-element": lambda: EIT((1, 4, 4), [1, 2, 3, 20], coefficient="element", refine=2),
    "eit-sensors": lambda: EIT((1, 5, 5), [1, 4], SENSORS),
    "burgers": lambda: Burgers((1, 15), time=0.1, steps=4),
    "burgers-sensors": lambda: Burgers((1, 16), RING, time=0.1, steps=4),
    "burgers-refined": lambda: Burgers((1, 12), viscosity=0.02, time=0.05, steps=4, refine=2),
}


def signal(operator, *leading: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Admissible input: a positive coefficient, or a moderate velocity."""
    x = normal(*leading, *operator.signal_shape, seed=seed)
    return (0.4 * x if isinstance(operator, Burgers) else (0.7 * x).exp()).to(dtype)
