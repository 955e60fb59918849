"""Forecasts from encoded scans: volumes are read, learned, and not mixed between patients."""

import math
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal

from latens.data import GrowthSimulation, VolumeSeries
from latens.data.latent_series import LatentSeries
from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError
from latens.evaluation.forecasts import cross_validate
from latens.inference.forecasting import LastValue, ScanODEForecaster
from latens.inference.forecasting.scans import students
from latens.studies.volumes.decode import Decoder
from latens.training import Training

TINY = Training(max_steps=20, batch_size=16, warmup_steps=2, kl_warmup_steps=0, validate_every=10)
DIM, VISITS = 5, 5
LOC, SCALE = 9.0, 1.0


def scans(count: int = 40, seed: int = 0, *, aligned: bool = True) -> LatentSeries:
    """Encoded visits of simulated lesions: latent 0 is log V with an error of .1, others stay.

    Without an aligned latent the log volume is a sum of two of them.
    """
    simulation = GrowthSimulation(
        count, VISITS, rate=0.02, effect=0.0, plateau=10.0, plateau_spread=0.1, noise=0.02
    )
    series, _ = simulation.make(seed)
    noise = NoiseStream(seed, 1)
    kept = noise.normal((count, 1, DIM)).expand(count, VISITS, DIM)
    loc = kept + 0.1 * noise.normal((count, VISITS, DIM))
    level = ((series.log_volumes - LOC) / SCALE).float()
    loc = torch.cat([level[..., None] + 0.1 * noise.normal((count, VISITS, 1)), loc[..., 1:]], -1)
    if not aligned:
        loc = torch.cat([loc[..., 1:2], loc[..., :1] - loc[..., 1:2], loc[..., 2:]], -1)
    n = count * VISITS
    return LatentSeries(
        patients=tuple(name for name in series.patients for _ in range(VISITS)),
        times=series.times.flatten(),
        loc=loc.reshape(n, DIM),
        variance=torch.full((n, DIM), 0.01),
        log_volumes=series.log_volumes.flatten(),
        affines=torch.eye(4).double().expand(n, 4, 4),
        axes=(("L", "P", "S"),) * n,
        codes=(1,) * n,
        shape=(1, 4, 4, 4),
        channels=("only",),
        volume_units=(LOC, SCALE) if aligned else None,
        encoder="e",
    )


def fitted(latents: LatentSeries, members: int = 2) -> tuple[ScanODEForecaster, VolumeSeries]:
    forecaster = ScanODEForecaster(latents, members=members, training=TINY)
    series = latents.volumes()
    forecaster.fit(series)
    return forecaster, series


def test_weights_travel_and_a_patient_does_not_depend_on_the_others() -> None:
    forecaster, series = fitted(scans())
    history, times, _ = series.split_last()
    whole = forecaster.forecast(history, times)
    assert whole.draws.shape == (999, 40, 1)
    other = ScanODEForecaster(scans(), members=2, training=TINY)
    other.restore(forecaster.tensors())
    restored = other.forecast(history, times)
    torch.testing.assert_close(restored.draws, whole.draws)
    assert whole.diagnostics["members_converged"] == 0  # their budget ended
    assert math.isnan(restored.diagnostics["members_converged"])
    alone = forecaster.forecast(history.take([7]), times[[7]], keys=[7])
    torch.testing.assert_close(alone.draws[:, 0], whole.draws[:, 7])
    assert whole.diagnostics["largest_halving_error"] < 0.05
    z = forecaster.latents(history, times, range(40), 0, 999)
    assert z.shape == (999, 40, 1, DIM)


@pytest.mark.parametrize("aligned", [True, False])
def test_forecasts_learn_growth(aligned: bool) -> None:
    latents = scans(120, aligned=aligned)
    series = latents.volumes()
    training = Training(
        max_steps=200,
        batch_size=64,
        learning_rate=1e-2,
        warmup_steps=5,
        kl_warmup_steps=0,
        validate_every=40,
    )

    def make() -> ScanODEForecaster:
        return ScanODEForecaster(latents, members=1, training=training)

    ours = cross_validate(make, series, folds=3, min_visits=5)
    last = cross_validate(LastValue, series, folds=3, min_visits=5)
    mine, theirs = (s.components["absolute_error"].mean() for s in (ours, last))
    assert mine < 0.8 * theirs
    assert 0.85 <= ours.components["covered"].mean() <= 1


def test_a_forecast_far_ahead_is_that_of_the_equation_and_not_of_one_long_step() -> None:
    latents = scans(80)
    training = replace(TINY, max_steps=100, batch_size=64, learning_rate=1e-2)
    forecaster = ScanODEForecaster(latents, members=1, training=training)
    series = latents.volumes()
    forecaster.fit(series)
    history = series.take([0, 1])
    times = history.last_times[:, None] + 1000.0  # visits are 42 days apart
    found = forecaster.forecast(history, times)
    forecaster.models[0].ode.steps = 64
    exact = forecaster.forecast(history, times)
    torch.testing.assert_close(found.median, exact.median, atol=0.05, rtol=0)
    assert found.diagnostics["largest_halving_error"] < 0.05


def test_reading_volumes_from_latents_that_do_not_mean_them() -> None:
    forecaster, series = fitted(scans(aligned=False), members=1)
    weights = forecaster.reading[0, :-1].numpy()
    np.testing.assert_allclose(weights[:2], [1, 1], atol=0.1)
    assert abs(weights[2:]).max() < 0.1
    assert len(series) == 40


def test_the_band_knows_how_much_a_reading_misses_on_new_patients() -> None:
    """Latents that tell patients apart and nothing of their volumes, as many as there are visits:
    ridge regression reads the volumes of the patients that it has seen, and of no other.
    """
    count, dim, noise = 60, 100, NoiseStream(3, 1)
    own = noise.normal((count, 1, dim)).expand(-1, VISITS, -1).reshape(-1, dim)
    levels = (LOC + noise.normal((count, 1))).expand(-1, VISITS).flatten().double()
    latents = replace(
        scans(count, aligned=False),
        loc=own.contiguous(),
        variance=torch.full((count * VISITS, dim), 1e-3),
        log_volumes=levels,
    )
    series = latents.volumes()
    forecaster = ScanODEForecaster(latents, members=2, training=replace(TINY, max_steps=40))
    forecaster.fit(series.take(range(40)))
    history, times, truth = series.take(range(40, count)).split_last()
    band = forecaster.forecast(history, times).interval(0.95)
    inside = (band.lower <= truth) & (truth <= band.upper)
    assert inside.sum() >= 16  # of 20; less than that in one of 400 where the level is .95


def unrelated(count: int, seed: int) -> LatentSeries:
    """Latents near 0 that say nothing of the volumes, which are N(LOC, 1) of a patient and stay:
    the draws of a forecast are all alike, and what it misses is normal.
    """
    noise = NoiseStream(seed, 2)
    levels = (LOC + noise.normal((count, 1))).expand(-1, VISITS).flatten().double()
    loc = 0.01 * noise.normal((count * VISITS, DIM))
    return replace(scans(count, aligned=False), loc=loc, log_volumes=levels)


def test_bands_from_few_patients_are_as_wide_as_their_spread_is_unknown() -> None:
    """Sixty fits to ten patients, two of whom tell the spread: of new ones the bands cover .95 on
    the average, and would cover P(|t₂| < 1.96) = .81 if they took that spread for the true one.
    """
    covered = []
    for seed in range(60):
        latents = unrelated(40, seed)
        series = latents.volumes(limit=1e-3)
        quick = replace(TINY, max_steps=2, validate_every=2)
        forecaster = ScanODEForecaster(latents, members=1, training=quick)
        forecaster.fit(series.take(range(10)), seed)
        assert forecaster.band_patients == 2
        history, times, truth = series.take(range(10, 40)).split_last()
        band = forecaster.forecast(history, times).interval(0.95)
        covered.append(float(((band.lower <= truth) & (truth <= band.upper)).double().mean()))
    error = np.std(covered) / np.sqrt(len(covered))
    assert error < 0.025
    assert abs(np.mean(covered) - 0.95) < 3 * error


def test_few_patients_behind_a_band_are_said() -> None:
    few, series = fitted(scans(), members=2)
    assert few.band_patients <= 12
    assert few.doubts == (
        f"the spread of its bands rests on {few.band_patients} patients, 20 are needed"
    )
    history, times, _ = series.split_last()
    assert few.forecast(history, times).diagnostics["band_patients"] == few.band_patients
    other = ScanODEForecaster(scans(), members=2, training=TINY)
    other.restore(few.tensors())
    assert other.doubts == few.doubts
    enough, _ = fitted(scans(160), members=1)
    assert enough.band_patients == 24
    assert not enough.doubts


def test_students_t_from_normal_noise() -> None:
    noise = torch.tensor([-9.0, -1.0, 0.0, 1.959964, 9.0], dtype=torch.float64)
    found = students(noise, 3)
    expected = stats.t(3).isf(stats.norm.sf(noise.abs().numpy())) * noise.sign().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[3] == pytest.approx(3.182446, abs=1e-5)


class Linear(torch.nn.Module):
    """A decoder that shows latent 1 in every voxel, with noise of variance .01."""

    signal_shape = (1, 4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.1))

    def decode(self, z: torch.Tensor) -> Normal:
        mean = z[:, 1, None, None, None, None].expand(-1, *self.signal_shape)
        return Normal(mean, self.scale.expand_as(mean))


def test_the_spread_of_a_decoded_scan_is_that_of_a_scan_and_not_of_its_path(
    tmp_path: Path,
) -> None:
    latents = scans(40)
    forecaster, series = fitted(latents)
    for model in forecaster.models:
        model.log_spread.data.fill_(math.log(0.7))
    some = series.take(range(12))
    (tmp_path / "maps").mkdir()
    Decoder(Linear(), latents).write(forecaster, some, [30.0], tmp_path / "maps")  # pyright: ignore
    written = sorted((tmp_path / "maps").glob("*_std.nii.gz"))
    found = np.mean([nibabel.load(file).get_fdata().mean() ** 2 for file in written])  # pyright: ignore
    times = some.last_times[:, None] + 30
    path = forecaster.latents(some, times, range(12), 0, 999)[:, :, 0, 1].var(0).mean()
    expected = float(path) + 0.7**2 + 0.1**2
    # 12 variances of 33 draws each
    assert found == pytest.approx(expected, rel=4 * math.sqrt(2 / 32 / 12))
    assert float(path) + 0.1**2 < 0.5 * expected


def test_members_that_do_not_divide_the_draws() -> None:
    tiny = replace(TINY, max_steps=2, validate_every=2)
    forecaster = ScanODEForecaster(scans(8), members=10, training=tiny)
    series = scans(8).volumes()
    forecaster.fit(series)
    history, times, _ = series.split_last()
    assert len(forecaster.forecast(history, times, draws=33).draws) == 33


def vanishing(aligned: bool) -> LatentSeries:
    """Lesions whose visits below the smallest third of their volumes have vanished; what an
    encoder says of the volume there is noise about the limit.
    """
    latents = scans(60, aligned=aligned)
    logs, limit = latents.log_volumes, float(latents.log_volumes.quantile(0.33))
    logs = torch.where(logs < limit, -torch.inf, logs)
    loc = latents.loc.clone()
    if aligned:
        noise = NoiseStream(7).normal((len(logs),))
        loc[:, 0] = torch.where(logs.isinf(), (limit - LOC) / SCALE + 0.5 * noise, loc[:, 0])
    return replace(latents, log_volumes=logs, loc=loc)


def test_vanished_lesions_are_censored_where_a_latent_means_the_volume() -> None:
    latents = vanishing(aligned=True)
    forecaster, series = fitted(latents, members=1)
    encoded = forecaster._encoded(series, torch.float64)
    assert torch.equal(encoded.censored, (series.volumes == 0) & series.mask)
    assert 60 < int(encoded.censored.sum()) < 140
    limit = (series.log_limit - LOC) / SCALE
    assert float(forecaster.models[0].limit) == pytest.approx(limit, abs=1e-6)
    other = ScanODEForecaster(latents, members=1, training=TINY)
    other.restore(forecaster.tensors())
    assert float(other.models[0].limit) == pytest.approx(limit, abs=1e-6)
    history, times, truth = series.split_last()
    forecast = forecaster.forecast(history, times)
    gone = truth[:, 0] <= series.log_limit
    assert forecast.unseen[gone].mean() > forecast.unseen[~gone].mean() + 0.3


def test_the_smallest_lesion_that_was_seen_is_not_censored() -> None:
    """The limit is its volume; their logarithms may differ in the last digit."""
    for seed in range(20):
        latents = scans(8, seed)
        forecaster = ScanODEForecaster(latents, members=1, training=TINY)
        assert not forecaster._encoded(latents.volumes(), torch.float64).censored.any()


def test_volumes_that_are_only_read_are_not_censored() -> None:
    latents = vanishing(aligned=True)
    unknown = replace(latents, log_volumes=torch.full_like(latents.log_volumes, torch.nan))
    forecaster = ScanODEForecaster(unknown, members=1, training=TINY)
    series = unknown.volumes(limit=float(np.exp(LOC)))
    assert not forecaster._encoded(series, torch.float64).censored.any()


def test_reading_volumes_of_which_some_have_vanished() -> None:
    """Near the weights that all volumes give, .97; the limit taken for a reading gives .30."""
    forecaster, _ = fitted(vanishing(aligned=False), members=1)
    weights = forecaster.reading[0, :-1].numpy()
    assert weights[:2].min() > 0.75
    assert abs(weights[2:]).max() < 0.1


def test_volumes_that_were_not_measured_are_those_that_the_latent_means() -> None:
    latents = scans()
    unknown = replace(latents, log_volumes=torch.full_like(latents.log_volumes, torch.nan))
    expected = LOC + SCALE * latents.loc[:, 0].double()
    torch.testing.assert_close(unknown.read_log_volumes, expected)
    torch.testing.assert_close(
        unknown.volumes().log_volumes.flatten(), expected.clamp(min=float(expected.min()))
    )
    with pytest.raises(DataError, match="none for `patient0000`"):
        replace(unknown, volume_units=None).volumes()


def test_what_cannot_be_forecast() -> None:
    forecaster, series = fitted(scans(), members=1)
    renamed = replace(scans(8, 5), patients=tuple(f"new{k // 5}" for k in range(40))).volumes()
    with pytest.raises(DataError, match="none of `new0`"):
        forecaster.forecast(renamed, renamed.last_times[:, None] + 1)
    with pytest.raises(DataError, match="at least 8"):
        ScanODEForecaster(scans(), training=TINY).fit(series.take(range(5)))
    with pytest.raises(ConfigError, match="without members"):
        ScanODEForecaster(scans()).forecast(series, series.last_times[:, None] + 1)
    with pytest.raises(ConfigError, match="members"):
        ScanODEForecaster(scans(), members=0)
    with pytest.raises(DataError, match="2 members of this latent ODE of scans"):
        ScanODEForecaster(scans(), members=2).restore(forecaster.tensors())
