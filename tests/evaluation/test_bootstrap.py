from __future__ import annotations

import numpy as np
import pytest

from hidvae.errors import ConfigError, DataError, ShapeError
from hidvae.evaluation import bootstrap
from hidvae.evaluation.bootstrap import bootstrap_interval, bootstrap_means, paired_bootstrap


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_interval_covers_the_known_mean_about_as_often_as_it_says():
    generator, num_trials = seeded(1), 300
    covered = 0
    for _ in range(num_trials):
        values = (generator.random(200) < 0.3).astype(float)
        low, high = bootstrap_interval(values, 300, generator)
        covered += low <= 0.3 <= high
    assert 0.90 < covered / num_trials < 0.99


def test_spread_of_the_means_is_the_standard_error():
    values = seeded(2).normal(size=400)
    means = bootstrap_means(values, 4000, seeded())
    assert means.mean() == pytest.approx(values.mean(), abs=0.005)
    assert means.std() == pytest.approx(values.std() / np.sqrt(400), rel=0.05)


def test_same_seed_same_interval_and_order_of_users_does_not_matter():
    values = seeded(3).integers(0, 2, size=(50, 3)).astype(float)
    first = bootstrap_interval(values, 200, seeded(7))
    assert (first == bootstrap_interval(values[::-1], 200, seeded(7))).all()
    assert (first != bootstrap_interval(values, 200, seeded(8))).any()


def test_columns_share_the_resample():
    values = seeded(4).random(30)
    means = bootstrap_means(np.stack([values, 2 * values], axis=1), 100, seeded())
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])


def test_blocks_give_all_samples(monkeypatch):
    values = seeded(5).random(30)
    whole = bootstrap_means(values, 101, seeded())
    monkeypatch.setattr(bootstrap, "_COUNTS_PER_BLOCK", 30 * 10)
    np.testing.assert_allclose(bootstrap_means(values, 101, seeded()), whole)


def test_constant_values_have_an_interval_of_no_width():
    assert bootstrap_interval(np.full(9, 0.25), 50, seeded()).tolist() == [0.25, 0.25]


def test_paired_difference_of_a_clear_winner():
    weak = seeded(6).random(500)
    found = paired_bootstrap(weak + 0.1, weak, 999, seeded())
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert found.p_value == 2 / 1000


def test_paired_difference_of_equals_is_not_significant():
    values = seeded(7).random(100)
    found = paired_bootstrap(values, values, 200, seeded())
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_paired_difference_changes_sign_with_the_order():
    generator = seeded(8)
    first, second = generator.random(80), generator.random(80)
    one, other = (
        paired_bootstrap(a, b, 2000, seeded()) for a, b in ((first, second), (second, first))
    )
    assert one.mean == pytest.approx(-other.mean)
    assert one.p_value == pytest.approx(other.p_value, abs=0.1)
    assert one.low <= one.mean <= one.high


def test_pairing_sees_what_independent_intervals_do_not():
    user = seeded(9).normal(size=300)  # users differ far more than rankers
    gain = seeded(10).normal(0.05, 0.1, size=300)
    paired = paired_bootstrap(user + gain, user, 500, seeded())
    low, high = bootstrap_interval(user, 500, seeded())
    assert paired.low > 0
    assert high - low > 5 * (paired.high - paired.low)


def test_no_users_is_refused():
    with pytest.raises(DataError, match="at least 1 user"):
        bootstrap_interval(np.empty(0), 10, seeded())


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="user row 1"):
        bootstrap_means(np.array([1.0, np.nan]), 10, seeded())
    with pytest.raises(ShapeError, match="same users"):
        paired_bootstrap(np.ones(3), np.ones(4), 10, seeded())
    with pytest.raises(ShapeError):
        bootstrap_means(np.ones((2, 2, 2)), 10, seeded())
    with pytest.raises(ConfigError, match="confidence"):
        bootstrap_interval(np.ones(3), 10, seeded(), confidence=1.0)
    with pytest.raises(ConfigError, match="found 0"):
        bootstrap_means(np.ones(3), 0, seeded())
