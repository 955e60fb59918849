"""Joint distances of the truth against their exact distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from latens.errors import ShapeError
from latens.metrics import (
    distance_of_members,
    ecdf_test,
    hotelling,
    hotelling_mean,
    mahalanobis,
)

K = 4


def problem(images: int, draws: int, seed: int = 0):
    """Truth and draws of N(μ_i, C_i), strongly correlated, different for every image."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    factor = normal(images, K, K) + 3 * normal(images, K, 1)
    mean = 10 * normal(images, K)
    x = mean + torch.einsum("bij,bj->bi", factor, normal(images, K))
    drawn = mean + torch.einsum("bij,mbj->mbi", factor, normal(draws, images, K))
    return x, mean, factor @ factor.mT, drawn


def test_a_known_covariance_gives_chi_square():
    x, mean, covariance, _ = problem(3000, 1)
    found = mahalanobis(x - mean, covariance)
    assert stats.kstest(K * found.numpy(), stats.chi2(K).cdf).pvalue > 1e-3
    by_hand = torch.linalg.solve(covariance[0], x[0] - mean[0]) @ (x[0] - mean[0]) / K
    assert found[0].item() == pytest.approx(by_hand.item())
    shared = mahalanobis(x - mean, covariance[0])
    assert shared[0].item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize("draws", [9, 39])
def test_estimated_covariances_follow_hotelling_and_not_chi_square(draws):
    x, _, _, drawn = problem(3000, draws)
    found = hotelling(drawn, x).numpy()
    assert stats.kstest(found, stats.f(K, draws - K).cdf).pvalue > 1e-3
    plain = K * found * (draws - 1) / (draws - K) * (draws + 1) / draws
    assert stats.kstest(plain, stats.chi2(K).cdf).pvalue < 1e-4
    assert stats.f(K, draws - K).mean() == pytest.approx(hotelling_mean(draws, K))


@pytest.mark.parametrize("draws", [9, 39])
def test_the_size_of_a_test_at_five_percent(draws):
    """3000 images, each tested on its own: .05 to four standard errors."""
    x, _, _, drawn = problem(3000, draws, seed=1)
    rejected = (stats.f.sf(hotelling(drawn, x), K, draws - K) <= 0.05).mean()
    assert rejected == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 3000))
    wide = drawn.mean(0) + 0.6 * (drawn - drawn.mean(0))
    assert (stats.f.sf(hotelling(wide, x), K, draws - K) <= 0.05).mean() > 0.15


def test_correlations_are_seen():
    """Draws with the right spread in each direction, but independent of each other."""
    x, mean, covariance, drawn = problem(500, 39)
    order = torch.stack(
        [torch.randperm(39, generator=torch.Generator().manual_seed(k)) for k in range(K)], dim=1
    )
    shuffled = drawn.gather(0, order[:, None].expand_as(drawn))
    assert hotelling(drawn, x).mean() < 1.3
    diagonal = torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))
    wrong = mahalanobis(x - mean, diagonal)
    assert wrong.mean().item() == pytest.approx(1.0, abs=0.15)  # the mean does not see it …
    assert wrong.var() > 3 * mahalanobis(x - mean, covariance).var()  # … the spread does
    assert hotelling(shuffled, x).var() > 2 * hotelling(drawn, x).var()


def test_directions_without_variance():
    flat = torch.diag(torch.tensor([2.0, 0.0]))
    error = torch.tensor([[2.0, 0.0], [0.0, 1e-3], [0.0, 0.0]])
    assert mahalanobis(error, flat).tolist() == [1.0, np.inf, 0.0]


def test_too_few_draws():
    with pytest.raises(ShapeError, match="at least 9 draws"):
        hotelling(torch.zeros(8, 2, 4), torch.zeros(2, 4))
    with pytest.raises(ShapeError, match="covariance"):
        mahalanobis(torch.zeros(2, 4), torch.zeros(3, 4, 4))


def test_distance_among_all_members_grows_with_hotelling():
    """D²/k = (M/(M + 1))·(M − 1)/(M − k)·… of the statistic: one order for all images."""
    x, _, _, drawn = problem(200, 12)
    among = distance_of_members(torch.cat([x[None], drawn]))
    alone = hotelling(drawn, x)
    assert stats.spearmanr(among[0], alone).statistic == pytest.approx(1.0)
    # by hand, and the sum over members is (M) k by definition of S
    torch.testing.assert_close(among.sum(0), torch.full((200,), 12.0, dtype=torch.float64))
    with pytest.raises(ShapeError, match="at least 5 draws"):
        distance_of_members(torch.zeros(4, 2, 4))


def test_the_rank_among_members_is_uniform_for_any_shape_of_posterior():
    """Cauchy draws have no covariance; exchangeable they are all the same."""
    generator = torch.Generator().manual_seed(4)
    ranks, wrong = [], []
    for _ in range(2):
        members = torch.empty(20, 1500, 3, dtype=torch.float64).cauchy_(generator=generator)
        members = members @ torch.tensor([[1.0, 2, 0], [0, 1, 1], [0, 0, 1]]).double()
        for factor, found in ((1.0, ranks), (0.7, wrong)):
            scaled = torch.cat([members[:1], factor * members[1:]])
            among = distance_of_members(scaled)
            found.append((among[1:] < among[0]).sum(0))
    for found, passes in ((ranks, True), (wrong, False)):
        p = ecdf_test(torch.cat(found).numpy()[:, None], 19)[1]
        assert (p > 1e-3) == passes
