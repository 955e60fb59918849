"""Minimum effective sample size per second against other samplers, on one posterior.

    pip install -r benchmarks/requirements-peers.txt
    python benchmarks/samplers.py --potential FILE [--seeds 3] [--only NAME …]

FILE is a module with the same density for torch and JAX (`torch_fns`, `jax_fns`, `inits`). Each
sampler runs in a process of its own, alone on the machine, with float32 and starts from the
prior, seed after seed, so that the speed of the machine varies for all of them. The effective
sample size is the smallest bulk size over x, x² and U. z compares means of x and x² with those of
all other samplers together. Rows are appended to `benchmarks/data/samplers.json`; those that are
there are not repeated.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from latens.inference.samplers import Kernel

ROWS = Path(__file__).resolve().parent / "data" / "samplers.json"
Row = dict[str, Any]


def main() -> None:
    """Run what is missing, each in its own process, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--potential", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, seed = arguments.one[0], int(arguments.one[1])
        print(json.dumps(SAMPLERS[name](potential(arguments.potential), seed)))
        return
    rows: list[Row] = json.loads(ROWS.read_text()) if ROWS.is_file() else []
    done = {(row["sampler"], row["seed"]) for row in rows}
    for seed in range(arguments.seeds):
        for name in arguments.only:
            if (name, seed) in done:
                continue
            command = [sys.executable, __file__, "--potential", str(arguments.potential)]
            found = subprocess.run(
                [*command, "--one", name, str(seed)], capture_output=True, text=True
            )
            if found.returncode != 0:
                print(f"{name}, seed {seed}: {found.stderr.strip().splitlines()[-1]}")
                continue
            row = {"sampler": name, "seed": seed, **json.loads(found.stdout.splitlines()[-1])}
            rows.append(row)
            ROWS.write_text(json.dumps(rows) + "\n")
            print(describe(row), flush=True)
    for name in dict.fromkeys(row["sampler"] for row in rows):
        print(f"{name:28} largest |z| against all others: {largest_z(rows, name):.2f}")


def describe(row: Row) -> str:
    """One line."""
    return (
        f"{row['sampler']:28} seed {row['seed']}: warm-up {row['warmup_s']:6.1f} s, sampling "
        f"{row['sampling_s']:6.1f} s, ESS {row['ess']:8.0f}, {row['ess_per_s']:7.0f}/s, with "
        f"warm-up {row['ess_per_s_all']:6.0f}/s, {row['gradients_per_ess']:6.0f} gradients per "
        f"ESS, R̂ {row['rhat']:.3f}"
    )


def largest_z(rows: list[Row], name: str) -> float:
    """Largest |z| of the means of x and x², pooled over seeds, against all other samplers."""
    own, other = (
        pooled([row for row in rows if (row["sampler"] == name) is same]) for same in (True, False)
    )
    return float(np.abs((own[0] - other[0]) / np.sqrt(own[1] + other[1])).max())


def pooled(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Means of x and x² weighted by their effective sizes, and their variances."""
    sizes = np.array([row["ess_moments"] for row in rows])  # (runs, 2 d)
    values = np.array([row["moments"] for row in rows])
    spread = np.array([row["variances"] for row in rows])
    total = sizes.sum(0)
    weights = sizes / total
    return (weights * values).sum(0), (weights * spread).sum(0) / total


def potential(path: Path) -> ModuleType:
    """The module of the density."""
    spec = importlib.util.spec_from_file_location("potential", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["potential"] = module  # torch.compile imports it by name
    spec.loader.exec_module(module)
    return module


def judged(
    draws: np.ndarray, energy: np.ndarray, warmup_s: float, sampling_s: float, gradients: float
) -> Row:
    """The numbers of one run.

    Args:
        draws: `(S, C, d)`.
        energy: U, `(S, C)`.
        warmup_s: Seconds until the first draw, compilation included.
        sampling_s: Seconds of the draws.
        gradients: Gradients of all chains together, of the draws.
    """
    import torch

    from latens.metrics import bulk_ess, mean_ess, rhat

    x = torch.from_numpy(np.asarray(draws, dtype=np.float64))
    u = torch.from_numpy(np.asarray(energy, dtype=np.float64))[..., None]
    moments = torch.cat([x, x.square()], -1)
    quantities = torch.cat([moments, u], -1)
    ess = float(bulk_ess(quantities).min())
    return {
        "chains": x.shape[1],
        "draws": len(x),
        "warmup_s": round(warmup_s, 2),
        "sampling_s": round(sampling_s, 2),
        "ess": round(ess, 1),
        "ess_per_s": round(ess / sampling_s, 1),
        "ess_per_s_all": round(ess / (sampling_s + warmup_s), 1),
        "gradients_per_ess": round(gradients / ess, 1),
        "rhat": round(float(rhat(quantities).max()), 4),
        "moments": moments.mean((0, 1)).tolist(),
        "variances": moments.flatten(0, 1).var(0).tolist(),
        "ess_moments": mean_ess(moments).tolist(),
    }


def latens_run(module: ModuleType, seed: int, kernel: "Kernel", chains: int, draws: int) -> Row:
    """A kernel of latens, compiled, all chains in lockstep."""
    import torch

    from latens.inference.samplers import Sampling

    energy, _, _ = module.torch_fns()
    start = torch.tensor(module.inits(chains, seed=7 + seed), dtype=torch.float32)
    begin = time.perf_counter()
    run = Sampling(
        lambda x: -energy(x), start, kernel, warmup=200, metric="dense", seed=seed, compiled=True
    )
    run.advance(run.warmup)
    warm = time.perf_counter()
    run.advance(draws)
    end = time.perf_counter()
    found = run.chains()
    row = judged(
        found.draws.numpy(),
        -found.log_density.numpy(),
        warm - begin,
        end - warm,
        found.gradients * chains,
    )
    return row | {"warmup_gradients": found.warmup_gradients}


def latens_hmc(module: ModuleType, seed: int) -> Row:
    """HMC of latens."""
    from latens.inference.samplers import HMC

    return latens_run(module, seed, HMC(), chains=256, draws=300)


def latens_nuts(module: ModuleType, seed: int) -> Row:
    """NUTS of latens."""
    from latens.inference.samplers import NUTS

    return latens_run(module, seed, NUTS(), chains=64, draws=200)


def numpyro_nuts(module: ModuleType, seed: int, *, chains: int, draws: int) -> Row:
    """NUTS of NumPyro with a dense mass matrix, chains vectorised."""
    import jax
    import jax.numpy as jnp
    from numpyro.infer import MCMC, NUTS

    energy, _, _ = module.jax_fns()
    start = jnp.asarray(module.inits(chains, seed=7 + seed), dtype="float32")
    kernel = NUTS(potential_fn=energy, dense_mass=True)
    sampler = MCMC(
        kernel, num_warmup=500, num_samples=draws, num_chains=chains,
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    begin = time.perf_counter()
    sampler.warmup(jax.random.PRNGKey(seed), init_params=start, collect_warmup=False)
    fields = ("num_steps", "potential_energy")
    sampler.run(jax.random.PRNGKey(seed + 100), extra_fields=fields)
    jax.block_until_ready(sampler.last_state.z)
    both = time.perf_counter()
    sampler.run(jax.random.PRNGKey(seed + 200), extra_fields=fields)  # now without compilation
    draws = np.asarray(sampler.get_samples(group_by_chain=True)).transpose(1, 0, 2)
    end = time.perf_counter()
    warm = both - (end - both)  # of the first run only its compilation belongs to warm-up
    extra = sampler.get_extra_fields(group_by_chain=True)
    steps = np.asarray(extra["num_steps"])  # (C, S)
    lockstep = float(steps.max(0).sum() * chains)
    return judged(
        draws, np.asarray(extra["potential_energy"]).T, warm - begin, end - both, lockstep
    )


def blackjax_chees(module: ModuleType, seed: int, *, chains: int) -> Row:
    """ChEES-HMC of BlackJAX with its diagonal metric, without which it does not converge here."""
    import blackjax
    import jax
    import jax.numpy as jnp
    import optax

    energy, _, _ = module.jax_fns()
    start = jnp.asarray(module.inits(chains, seed=7 + seed), dtype="float32")
    key = jax.random.PRNGKey(seed)

    def density(x):
        return -energy(x)

    begin = time.perf_counter()
    warm_up = blackjax.chees_adaptation(density, chains, mass_matrix_estimation="diagonal")
    (states, parameters), _ = warm_up.run(
        key, start, step_size=0.05, optim=optax.adam(0.02), num_steps=600
    )
    kernel = blackjax.dynamic_hmc(density, **parameters).step
    jax.block_until_ready(states.position)

    def one(state, k):
        state, info = jax.vmap(kernel)(jax.random.split(k, chains), state)
        return state, (state.position, state.logdensity, info.num_integration_steps)

    loop = jax.jit(lambda s, k: jax.lax.scan(one, s, jax.random.split(k, 400)))
    loop = loop.lower(states, key).compile()
    warm = time.perf_counter()
    _, (positions, densities, steps) = jax.block_until_ready(loop(states, key))
    end = time.perf_counter()
    return judged(positions, -np.asarray(densities), warm - begin, end - warm, float(steps.sum()))


def pyro_nuts(module: ModuleType, seed: int) -> Row:
    """NUTS of Pyro, one chain."""
    import pyro
    import torch
    from pyro.infer import NUTS

    energy, _, _ = module.torch_fns()
    pyro.set_rng_seed(seed)
    start = torch.tensor(module.inits(1, seed=7 + seed)[0], dtype=torch.float32)
    kernel = NUTS(potential_fn=lambda v: energy(v["x"]), full_mass=True)
    begin = time.perf_counter()
    kernel.initial_params = {"x": start}
    kernel.setup(300)
    state, draws, energies = kernel.initial_params, [], []
    for i in range(400):
        if i == 300:
            kernel.end_warmup()
            warm = time.perf_counter()
        state = kernel.sample(state)
        if i >= 300:
            draws.append(state["x"].clone())
            energies.append(float(energy(state["x"])))
    end = time.perf_counter()
    x = torch.stack(draws)[:, None].numpy()
    # Pyro does not say how many gradients it took.
    return judged(x, np.array(energies)[:, None], warm - begin, end - warm, float("nan"))


def nutpie_nuts(module: ModuleType, seed: int) -> Row:
    """NUTS of nutpie with a low-rank metric, two chains; the density is called from Python."""
    import nutpie
    import torch
    from nutpie.compiled_pyfunc import from_pyfunc

    torch.set_num_threads(1)
    energy, _, _ = module.torch_fns()
    starts = module.inits(64, seed=7 + seed)

    def make_density():
        def density(x, **_):
            point = torch.tensor(x, dtype=torch.float32, requires_grad=True)
            value = -energy(point)
            value.backward()
            return float(value), point.grad.double().numpy()

        return density

    def make_expand(*_):
        return lambda x, **__: {"x": np.asarray(x, dtype=np.float64)}

    model = from_pyfunc(
        32,
        make_density,
        make_expand,
        [np.dtype("float64")],
        [(32,)],
        ["x"],
        make_initial_point_fn=lambda s: starts[s % len(starts)].astype(np.float64),
    )
    marks: list[float] = []
    settings = {"chains": 2, "cores": 2, "seed": seed, "progress_bar": False}
    settings["low_rank_modified_mass_matrix"] = True
    for draws in (1, 100):  # the first run is warm-up alone
        begin = time.perf_counter()
        trace = nutpie.sample(model, draws=draws, tune=300, **settings)
        marks.append(time.perf_counter() - begin)
    x = trace.posterior["x"].to_numpy().transpose(1, 0, 2)
    potential_ = -trace.sample_stats["logp"].to_numpy().T
    steps = float(trace.sample_stats["n_steps"].to_numpy().sum())
    return judged(x, potential_, marks[0], max(marks[1] - marks[0], 1e-9), steps)


SAMPLERS: dict[str, Callable[[ModuleType, int], Row]] = {
    "latens HMC, 256 chains": latens_hmc,
    "BlackJAX ChEES, 128 chains": lambda m, s: blackjax_chees(m, s, chains=128),
    "NumPyro NUTS, 64 chains": lambda m, s: numpyro_nuts(m, s, chains=64, draws=200),
    "NumPyro NUTS, 4 chains": lambda m, s: numpyro_nuts(m, s, chains=4, draws=1000),
    "latens NUTS, 64 chains": latens_nuts,
    "nutpie, 2 chains": nutpie_nuts,
    "Pyro NUTS, 1 chain": pyro_nuts,
}


if __name__ == "__main__":
    main()
