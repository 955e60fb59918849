"""Error of the exact linearised posterior of `burgers`: what its readings tell any model.

    python benchmarks/pde_floor.py [--fields 24]

In the coordinates ξ ~ N(0, I) of the family (31 functions), with F the solver and J its
derivative at the true field,

    Cov(ξ | y) ≈ (Jᵀ J/σ² + I)⁻¹,    error = (tr Cov(a | y))^½ / ‖a‖.

The prior is the true one and there is no surrogate. Rows go to `benchmarks/data/pde_floor.json`.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from latens.data.field_families import GaussianFields
from latens.data.random_fields import GaussianField
from latens.studies.configure import construct, load_layers, resolve
from latens.studies.pde.study import TEST, Pde
from latens.training import one_thread

ROWS = Path(__file__).resolve().parent / "data" / "pde_floor.json"
STEP = 1e-4
"""Of the central differences, in standard deviations of the prior."""


def functions(family: GaussianFields, size: tuple[int, ...]) -> Tensor:
    """√λ_k φ_k on a ring, constant, cosines and sines, `(functions, nodes)`."""
    field = GaussianField(
        size, family.boundary, family.tau, family.alpha, family.scale, modes=family.modes
    )
    return field(torch.eye(*field.noise_shape, dtype=torch.float64))[:, 0]


def floor(study: Pde, basis: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Relative error of every field, `(n,)`, and posterior deviations, `(n, functions)`."""
    fields = study.fields(TEST, count).fine  # (n, 1, nodes)
    operator = study.system.operator(study.system.sensors(study.sensors[0], study.seed))
    clean = operator(fields).flatten(1)
    sigma = clean.square().mean(1).sqrt() * 10 ** (-study.snr[0] / 20)
    columns = [
        (operator(fields + STEP * f) - operator(fields - STEP * f)).flatten(1) / (2 * STEP)
        for f in basis
    ]
    jacobian = torch.stack(columns, -1)  # (n, m, functions)
    eye = torch.eye(len(basis), dtype=torch.float64)
    covariance = torch.linalg.inv(jacobian.mT @ jacobian / sigma[:, None, None] ** 2 + eye)
    variance = torch.einsum("kx,nkl,lx->n", basis, covariance, basis)
    spread = covariance.diagonal(dim1=1, dim2=2).sqrt()
    return variance.sqrt() / fields.flatten(1).norm(dim=1), spread


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=24)
    options = parser.parse_args()
    study = construct(Pde, resolve(Pde, load_layers("pde", ["burgers"], []), []))
    family = study.family
    assert isinstance(family, GaussianFields)
    with one_thread(), torch.no_grad():
        basis = functions(family, study.system.fine)
        error, spread = floor(study, basis, options.fields)
    waves = [0, *range(1, family.modes + 1), *range(1, family.modes + 1)]
    by_wave = {
        str(wave): round(float(spread[:, [w == wave for w in waves]].mean()), 4)
        for wave in range(5)
    }
    found = {
        "fields": options.fields,
        "relative_error": {
            "mean": round(float(error.mean()), 4),
            "median": round(float(error.median()), 4),
        },
        "posterior_std_by_wave_number": by_wave,
    }
    text = json.dumps(found, indent=1)
    ROWS.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
