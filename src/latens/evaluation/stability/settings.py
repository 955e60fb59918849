"""What the stability of a solver is measured with, and what that costs."""

from dataclasses import dataclass, fields
from math import inf

from latens.errors import ConfigError
from latens.inference import DEFAULT_DRAWS
from latens.metrics.metric import LEVEL
from latens.metrics.stability import (
    DETAIL_WIDTHS,
    NOISE_LEVELS,
    RANDOM_DISTURBANCES,
    RELATIVE_LEVELS,
    VISIBILITIES,
    repetitions_for,
)

MAY_BE_ZERO = ("polish_steps", "level_steps", "ball_steps", "image_penalty")
"""Settings that may be 0."""

LEAST = {"random": repetitions_for(LEVEL)}
"""Settings whose least value is above 1."""


@dataclass(frozen=True)
class StabilitySettings:
    """Budgets of the searches.

    A search climbs with few draws behind the posterior mean, and the one for the worst case
    polishes its best point with all; whatever is found is judged with all.

    Args:
        restarts: Starts of each search for the worst case.
        steps: Gradients of each.
        polish_steps: Gradients with all draws from the best end.
        level_steps: Gradients for each other radius of the noise-to-error curves, from the worst
            case of a ball that was searched before.
        search_draws: Draws behind the posterior mean while searching.
        random: Random disturbances per image; 95 % of them are not defined for fewer than 19.
        lipschitz_starts: Starts of the search for the largest singular value.
        lipschitz_tolerance: Residual ‖JᵀJv − ρ²v‖/ρ² at which it stops.
        lipschitz_steps: Products with JᵀJ at which it stops in any case, of each stage.
        ball_steps: Gradients of each of the two searches for the steepest secant of the ball.
        probes: Gaussian probes of the mean square gain and of the expected residual.
        image_restarts: Starts of the attack on the image.
        image_steps: Gradients of each.
        image_penalty: λ of ½‖ΔR‖² − ½λ‖r‖².
        image_radius: Largest ‖r‖/‖x‖.
        patch: Side of the patches of local artefacts, pixels.
        places: Random places tried for an inserted detail; the first that is seen is taken.
    """

    restarts: int = 5
    steps: int = 30
    polish_steps: int = 5
    level_steps: int = 8
    search_draws: int = 8
    random: int = RANDOM_DISTURBANCES
    lipschitz_starts: int = 2
    lipschitz_tolerance: float = 1e-2
    lipschitz_steps: int = 30
    ball_steps: int = 8
    probes: int = 8
    image_restarts: int = 2
    image_steps: int = 20
    image_penalty: float = 0.1
    image_radius: float = 0.05
    patch: int = 5
    places: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in MAY_BE_ZERO else LEAST.get(field.name, 1)
            if isinstance(field.default, float):
                valid = (value >= 0 if least == 0 else value > 0) and value < inf
                rule = "a number of 0 or more" if least == 0 else "a positive number"
            else:
                valid = value == int(value) and value >= least
                rule = f"a whole number of at least {least}"
            if not valid:
                raise ConfigError(field.name, rule, value, f"The default is {field.default}.")


def stability_cost(settings: StabilitySettings) -> dict[str, int]:
    """Work per image, in reconstructions with one draw; multiply by seconds of one to plan.

    A gradient counts as 2 evaluations more than a value, a product with JᵀJ as 4.

    Args:
        settings: Budgets.

    Returns:
        By part, an upper bound: searches that converge stop early.
    """
    few, all_ = settings.search_draws, DEFAULT_DRAWS
    radii = len(NOISE_LEVELS) - 1 + len(RELATIVE_LEVELS)
    details = len(DETAIL_WIDTHS) * len(VISIBILITIES)
    return {
        "worst case": 3 * few * settings.restarts * (settings.steps + 1)
        + all_ * (settings.restarts + 3 * (settings.polish_steps + 1)),
        "noise-to-error curves": radii * (3 * few * (settings.level_steps + 1) + 2 * all_),
        "random": all_ * (1 + settings.random),
        "lipschitz": 4 * settings.lipschitz_steps * (few * settings.lipschitz_starts + all_)
        + 6 * all_ * settings.probes,
        "ball": few * (6 * (settings.ball_steps + 1) + 1) + 4 * all_,
        "image attack": 3 * few * settings.image_restarts * (settings.image_steps + 1)
        + all_ * 2 * (settings.image_restarts + 1),
        "details": all_ * details,
        "more samples": all_,
        "uncertainty": 2 * all_,
    }
