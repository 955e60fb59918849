"""What the readings of `burgers` and `piecewise` tell any model: the true prior, no surrogate.

    python benchmarks/pde_floor.py burgers [--fields 24]
    python benchmarks/pde_floor.py piecewise [--fields 24] [--draws 200] [--snr 50]

`burgers`: linearised at the truth. In the coordinates ξ ~ N(0, I) of the family (31 functions),
with F the solver and J its derivative at the true field,

    Cov(ξ | y) ≈ (Jᵀ J/σ² + I)⁻¹,    error = (tr Cov(a | y))^½ / ‖a‖.

`piecewise`: 5 + 5 s(φ/ε), φ the Gaussian field of the family in its 841 coordinates, ε a tenth of
its standard deviation, s the logistic function. The maximum is found from a start near 0 with ε
falling to that; HMC goes on from there and, in a second chain, from the truth; the class of a node
is that of most draws of both. Solver and readings are those of the model's grid. Beside it the
I_corr of fields whose φ keeps its d largest modes: as far as d latents linear in φ can go.

Rows go to `benchmarks/data/pde_floor.json`, by preset.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latens.data.field_families import GaussianFields, TwoValuedFields
from latens.data.random_fields import GaussianField
from latens.distributions.noise import Purpose, row_noise
from latens.inference.samplers.hmc import HMC
from latens.inference.samplers.maximise import maximise
from latens.inference.samplers.sampling import Sampling
from latens.problems.pde import Darcy
from latens.studies.configure import construct, load_layers, resolve
from latens.studies.pde.study import DATA_SEED, TEST, Pde
from latens.training import one_thread

ROWS = Path(__file__).resolve().parent / "data" / "pde_floor.json"
STEP = 1e-4
"""Of the central differences, in standard deviations of the prior."""
WIDTHS = (1.0, 0.5, 0.25, 0.12, 0.1)
"""ε of the climb, in standard deviations of φ."""
KEPT = (64, 128, 256)
TRUNCATED = 500
"""Fields of the bound by modes."""


def study_of(preset: str) -> Pde:
    """The study as its preset has it."""
    return construct(Pde, resolve(Pde, load_layers("pde", [preset], []), []))


def functions(family: GaussianFields, size: tuple[int, ...]) -> Tensor:
    """√λ_k φ_k on a ring, constant, cosines and sines, `(functions, nodes)`."""
    field = GaussianField(
        size, family.boundary, family.tau, family.alpha, family.scale, modes=family.modes
    )
    return field(torch.eye(*field.noise_shape, dtype=torch.float64))[:, 0]


def linearised(study: Pde, basis: Tensor, count: int) -> tuple[Tensor, Tensor]:
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


def burgers(options: argparse.Namespace) -> dict[str, Any]:
    """Error of the linearised posterior."""
    study = study_of("burgers")
    family = study.family
    assert isinstance(family, GaussianFields)
    with torch.no_grad():
        basis = functions(family, study.system.fine)
        error, spread = linearised(study, basis, options.fields)
    waves = [0, *range(1, family.modes + 1), *range(1, family.modes + 1)]
    by_wave = {
        str(wave): round(float(spread[:, [w == wave for w in waves]].mean()), 4)
        for wave in range(5)
    }
    return {
        "fields": options.fields,
        "relative_error": summary(error),
        "posterior_std_by_wave_number": by_wave,
    }


class TwoValued:
    """Test fields of the study, their readings, and the posterior of ξ.

    Args:
        study: `piecewise`.
        count: Test fields.
    """

    def __init__(self, study: Pde, count: int) -> None:
        family, size = study.family, study.system.grid
        assert isinstance(family, TwoValuedFields)
        self.low, self.high = family.low, family.high
        self.field = GaussianField(size, "neumann", family.tau, family.alpha, modes=family.modes)
        self.spread = self.field.covariance().diagonal().mean().sqrt()
        tested = study.fields(TEST, count)
        truth = study.system.coarse(tested.fine)
        self.xi = row_noise(
            (DATA_SEED, Purpose.SIGNAL), tested.keys, (1, *self.field.noise_shape), torch.float64
        )[0].flatten(1)
        self.chi = self.upper(self.xi)
        assert torch.equal(self.chi, (truth > self.low).double().flatten(1))
        sensors = study.system.sensors(study.sensors[0], study.seed)
        self.operator = Darcy((1, *size), sensors)
        clean = self.operator(truth).flatten(1)
        self.y, self.sigma = study.noise(clean, study.snr[0], tested.keys)

    def phi(self, xi: Tensor) -> Tensor:
        """φ, `(…, 1, *grid)`."""
        return self.field(xi.unflatten(-1, self.field.noise_shape))

    def upper(self, xi: Tensor) -> Tensor:
        """1 where the field has its upper value, `(…, nodes)`."""
        return (self.phi(xi) >= 0).double().flatten(-3)

    def log_density(self, width: float):
        """log p(ξ | y) up to a constant, for chains of all fields."""

        def value(xi: Tensor) -> Tensor:
            chains = len(xi) // len(self.y)
            y, sigma = (v.repeat_interleave(chains, 0) for v in (self.y, self.sigma))
            share = torch.sigmoid(self.phi(xi) / (width * self.spread))
            read = self.operator(self.low + (self.high - self.low) * share).flatten(1)
            misfit = ((read - y) / sigma[:, None]).square().sum(1)
            return -0.5 * (misfit + xi.square().sum(1))

        return value

    def i_corr(self, probability: Tensor) -> Tensor:
        """Of the more probable class, `(n,)`."""
        return i_corr(self.chi, (probability > 0.5).double())


def i_corr(chi: Tensor, guess: Tensor) -> Tensor:
    """⟨χ, χ̂⟩/(‖χ‖ ‖χ̂‖), 1 where neither has the class, `(n,)`."""
    both, sizes = (chi * guess).sum(-1), chi.sum(-1) * guess.sum(-1)
    neither = (chi.sum(-1) + guess.sum(-1) == 0).double()
    return neither + both / sizes.sqrt().clamp(min=1)


def piecewise(options: argparse.Namespace) -> dict[str, Any]:
    """I_corr of the maximum and of the posterior, and of fields of few modes."""
    begin = time.perf_counter()
    study = study_of("piecewise")
    study.snr = [options.snr]
    case = TwoValued(study, options.fields)
    climb = 0.1 * torch.roll(case.xi, 1, 0)  # near 0, of no use to the field
    for width in WIDTHS:
        climb = maximise(case.log_density(width), climb, max_iterations=300).position
    start = torch.stack([climb, case.xi], 1).flatten(0, 1)
    sampling = Sampling(
        case.log_density(WIDTHS[-1]),
        start,
        HMC(max_steps=48),
        problems=options.fields,
        warmup=options.draws,
        metric="diagonal",
        seed=0,
    )
    draws = sampling.run(options.draws).draws.unflatten(1, (options.fields, 2))
    with torch.no_grad():
        probability = torch.stack([case.upper(draw) for draw in draws]).mean(0)  # (n, 2, nodes)
        modes = truncated(case.field)
    return {
        "fields": options.fields,
        "i_corr_map": summary(case.i_corr(case.upper(climb))),
        "i_corr_posterior": summary(case.i_corr(probability.mean(1))),
        "i_corr_chain_from_map": summary(case.i_corr(probability[:, 0])),
        "i_corr_chain_from_truth": summary(case.i_corr(probability[:, 1])),
        "difference_of_chains": summary(probability.diff(dim=1).abs().mean((1, 2))),
        "i_corr_of_the_largest_modes": modes,
        "minutes": round((time.perf_counter() - begin) / 60, 1),
    }


def truncated(field: GaussianField) -> dict[str, Any]:
    """I_corr of fields whose φ keeps its d largest modes."""
    noise = row_noise(
        (0, Purpose.SIGNAL), range(TRUNCATED), (1, *field.noise_shape), torch.float64
    )[0]
    chi, found = (field(noise) >= 0).double().flatten(1), {}
    for count in KEPT:
        least = field.eigenvalues.flatten().topk(count).values.min()
        guess = (field(noise * (field.eigenvalues >= least)) >= 0).double().flatten(1)
        found[str(count)] = summary(i_corr(chi, guess))
    return found


def summary(values: Tensor) -> dict[str, float]:
    """Mean and median."""
    return {
        "mean": round(float(values.mean()), 4),
        "median": round(float(values.quantile(0.5)), 4),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset", choices=["burgers", "piecewise"])
    parser.add_argument("--fields", type=int, default=24)
    parser.add_argument("--draws", type=int, default=200, help="of each chain, and of its warm-up")
    parser.add_argument("--snr", type=float, default=50.0, help="decibel, of `piecewise`")
    options = parser.parse_args()
    with one_thread():
        found = {"burgers": burgers, "piecewise": piecewise}[options.preset](options)
    kept = json.loads(ROWS.read_text()) if ROWS.is_file() else {}
    name = options.preset if options.snr == 50 else f"{options.preset} {options.snr:g} dB"
    ROWS.write_text(json.dumps({**kept, name: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
