import numpy as np
import pytest

from latens.data.subsets import deal_roles, hold_out, nested_subsets
from latens.errors import ConfigError

ROLES = ("train", "validation", "calibration")
SINGLES = tuple(str(i) for i in range(400))


def random_groups(rng: np.random.Generator) -> tuple[str, ...]:
    """Groups of 1 to 12 images whose members are scattered over the set."""
    sizes = rng.integers(1, 13, size=rng.integers(30, 60))
    names = np.repeat([f"patient {i}" for i in range(len(sizes))], sizes)
    return tuple(rng.permutation(names).tolist())


def groups_of(groups, indices) -> set[str]:
    return {groups[i] for i in indices}


@pytest.mark.parametrize("trial", range(30))
def test_groups_stay_whole_and_subsets_and_roles_are_nested(trial):
    rng = np.random.default_rng(trial)
    groups = random_groups(rng) if trial % 3 else SINGLES
    pool, test = hold_out(groups, int(rng.integers(1, len(groups) // 3)), seed=trial)
    assert sorted([*pool, *test]) == list(range(len(groups)))
    assert not groups_of(groups, pool) & groups_of(groups, test)

    sizes = sorted({int(n) for n in rng.integers(100, len(pool) + 1, size=6)} | {len(pool)})
    subsets = nested_subsets(groups, pool, sizes, seed=trial)
    assert list(subsets) == sizes
    smaller = None
    for size, subset in subsets.items():
        roles = [getattr(subset, role) for role in ROLES]
        assert subset.n == len(subset.indices) == len(set(subset.indices)) <= size
        assert set(subset.indices) <= set(pool)
        assert all(len(role) for role in roles)
        for i, first in enumerate(roles):
            for second in roles[i + 1 :]:
                assert not groups_of(groups, first) & groups_of(groups, second)
        if smaller is not None:
            for role in ROLES:
                before = getattr(smaller, role)
                np.testing.assert_array_equal(getattr(subset, role)[: len(before)], before)
        smaller = subset
    assert subsets[len(pool)].n == len(pool), "the whole pool is used when it is asked for"


@pytest.mark.parametrize("seed", range(5))
def test_size_is_the_longest_prefix_of_whole_groups(seed):
    groups = random_groups(np.random.default_rng(seed))
    pool = np.arange(len(groups))
    sizes = list(range(100, len(pool) + 1))
    reached = [subset.n for subset in nested_subsets(groups, pool, sizes, seed).values()]
    largest = max(groups.count(group) for group in set(groups))
    assert all(0 <= size - n < largest for size, n in zip(sizes, reached, strict=True))
    assert reached == sorted(reached)
    exact = nested_subsets(groups, pool, sorted(set(reached)), seed)
    assert all(subset.n == size for size, subset in exact.items())


@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1)])
@pytest.mark.parametrize("n", [8, 9, 16, 20, 33, 100, 128, 300])
def test_single_images_are_counted_exactly_and_shared_fairly(n, shares):
    subset = nested_subsets(SINGLES, np.arange(400), [n], seed=1, shares=shares)[n]
    assert subset.n == n
    for role, share in zip(ROLES, shares, strict=True):
        count = len(getattr(subset, role))
        assert count >= 1
        assert abs(count - share * n) <= 1.0


def test_default_shares_are_exact_where_arithmetic_allows():
    subset = nested_subsets(SINGLES, np.arange(400), [200], seed=0)[200]
    assert [len(getattr(subset, role)) for role in ROLES] == [140, 30, 30]


@pytest.mark.parametrize("seed", range(20))
def test_deal_is_never_far_from_the_shares_with_unequal_groups(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 10, size=80)
    shares = np.array([0.7, 0.15, 0.15])
    roles = deal_roles(counts, shares)
    have = np.cumsum(np.eye(3)[roles] * counts[:, None], axis=0)
    wanted = np.cumsum(counts)[:, None] * shares
    assert np.abs(have - wanted).max() <= 10
    assert set(roles[:8]) == {0, 1, 2}


def test_small_shares_still_receive_a_group_among_the_first_eight():
    roles = deal_roles(np.ones(100, dtype=int), (0.98, 0.01, 0.01))
    assert set(roles[:8]) == {0, 1, 2}
    assert (roles == 0).sum() == 98


def test_share_of_zero_leaves_the_role_empty():
    subset = nested_subsets(SINGLES, np.arange(40), [40], seed=0, shares=(0.8, 0.2, 0.0))[40]
    assert [len(getattr(subset, role)) for role in ROLES] == [32, 8, 0]


def test_three_groups_are_enough_for_three_roles():
    subset = nested_subsets(("a", "b", "b", "c"), np.arange(4), [4], seed=0)[4]
    assert sorted(len(getattr(subset, role)) for role in ROLES) == [1, 1, 2]


def test_seed_decides_and_other_sizes_do_not():
    pool = np.arange(400)
    alone = nested_subsets(SINGLES, pool, [50], seed=3)[50]
    among = nested_subsets(SINGLES, pool, [300, 50, 20], seed=3)[50]
    np.testing.assert_array_equal(alone.indices, among.indices)
    other = nested_subsets(SINGLES, pool, [50], seed=4)[50]
    shared = len(set(alone.indices) & set(other.indices))
    assert shared < 20, "two seeds share about 50 · 50 / 400 images"


def test_every_image_is_equally_likely_to_be_used():
    groups = SINGLES[:20]
    used = np.zeros(20)
    for seed in range(400):
        used[nested_subsets(groups, np.arange(20), [10], seed=seed)[10].train] += 1
    expected = used.sum() / 20
    assert np.abs(used - expected).max() < 5 * np.sqrt(expected)


def test_test_set_and_training_order_are_independent():
    """The images held out by a seed are spread over that seed's training order."""
    places = []
    for seed in range(40):
        _, test = hold_out(SINGLES, 100, seed)
        order = nested_subsets(SINGLES, np.arange(400), [100], seed)[100].indices
        places.append(len(set(test) & set(order)))
    assert 20 < np.mean(places) < 30


POOL = np.arange(6)
BAD = {
    "size beyond the pool": ("sizes", lambda: nested_subsets(SINGLES, POOL, [7], 0), "6"),
    "size below the first group": (
        "sizes",
        lambda: nested_subsets(("a",) * 9 + ("b",) * 9 + ("c",) * 9, np.arange(27), [5], 0),
        "27",
    ),
    "size of nothing": ("sizes", lambda: nested_subsets(SINGLES, np.arange(40), [0], 0), "5"),
    "too few groups": ("pool", lambda: nested_subsets("aabb", np.arange(4), [4], 0), "3 groups"),
    "empty pool": ("pool", lambda: nested_subsets(SINGLES, np.arange(0), [4], 0), "0 groups"),
    "shares": (
        "shares",
        lambda: nested_subsets(SINGLES, POOL, [6], 0, shares=(0.7, 0.2, 0.2)),
        "0.2",
    ),
    "negative share": (
        "shares",
        lambda: nested_subsets(SINGLES, POOL, [6], 0, shares=(1.2, -0.1, -0.1)),
        "-0.1",
    ),
    "negative seed": ("seed", lambda: nested_subsets(SINGLES, POOL, [6], -1), "-1"),
    "test set of nothing": ("test_images", lambda: hold_out(SINGLES, 0, 0), "0"),
    "test set of everything": ("test_images", lambda: hold_out(SINGLES, 400, 0), "400"),
    "one group": ("test_images", lambda: hold_out(("a",) * 9, 2, 0), "1 groups"),
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_requests_are_refused_with_the_number_that_helps(case):
    argument, request, number = BAD[case]
    with pytest.raises(ConfigError) as caught:
        request()
    assert caught.value.argument == argument
    assert number in str(caught.value)
