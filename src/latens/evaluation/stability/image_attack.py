"""The image that a small change turns into a very different reconstruction.

    max_r  ½ ‖R(A(x + r)) − R(A x)‖² − (λ/2) ‖r‖²,   ‖r‖ ≤ radius · ‖x‖,   no noise

A stable reconstruction changes as the image does: R(A(x + r)) is then close to x + r.

References:
    Antun, Renna, Poon, Adcock, Hansen (2020), On instabilities of deep learning in image
    reconstruction and the potential costs of AI, https://doi.org/10.1073/pnas.1907377117 (there
    without the ball, and stopped by hand).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latens.evaluation.stability.ascent import ascend, best_of
from latens.evaluation.stability.reconstruction import Reconstruction, norms, repeat
from latens.evaluation.stability.settings import StabilitySettings
from latens.problems import Operator


@dataclass(frozen=True, eq=False)
class ImageAttack:
    """The change of each image found.

    Attributes:
        change: r, `(B, *signal_shape)`.
        perturbation: ‖r‖/‖x‖, `(B,)`.
        response: ‖R(A(x + r)) − R(A x)‖/‖x‖, `(B,)`.
        error: ‖R(A(x + r)) − (x + r)‖/‖x‖, `(B,)`.
    """

    change: Tensor
    perturbation: Tensor
    response: Tensor
    error: Tensor


def attack_image(
    reconstruction: Reconstruction,
    operator: Operator,
    x: Tensor,
    starts: Tensor,
    settings: StabilitySettings,
) -> ImageAttack:
    """Search for the change from several starts, and judge the ends by the ordinary call.

    Args:
        reconstruction: R with all its draws.
        operator: A.
        x: Images, `(B, *signal_shape)`.
        starts: Standard normal, `(S, B, *signal_shape)`.
        settings: Budgets, λ and radius.
    """
    copies = len(starts)
    images = repeat(x, copies)
    radius = settings.image_radius * norms(images)
    every = reconstruction.repeated(copies)
    coarse = every.with_draws(settings.search_draws)
    with torch.no_grad():
        clean, measured = operator(x), operator(images)
    before = coarse.mean_at(measured)

    def gain(x_hat: Tensor, r: Tensor, rows: slice) -> Tensor:
        moved = (x_hat - before[rows]).square().flatten(1).sum(1)
        return 0.5 * (moved - settings.image_penalty * r.square().flatten(1).sum(1))

    noise = starts.transpose(0, 1).flatten(0, 1)  # (B S, *signal)
    length = (0.1 * radius / norms(noise)).reshape(-1, *[1] * (x.ndim - 1))
    found = ascend(
        lambda r: coarse.value_and_gradient(r, lambda v, rows: operator(images[rows] + v), gain),
        length * noise,
        radius,
        settings.image_steps,
    )
    unmoved = reconstruction.at(clean)
    with torch.no_grad():
        disturbed = operator(images + found.point)
    moved = every.at(disturbed)
    change = norms(moved - repeat(unmoved, copies))
    value = 0.5 * (change.square() - settings.image_penalty * norms(found.point).square())
    rows = best_of(value, copies)
    r, size = found.point[rows], norms(x)
    return ImageAttack(
        r, norms(r) / size, change[rows] / size, norms(moved[rows] - (x + r)) / size
    )
