from __future__ import annotations

import numpy as np
import pytest

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import (
    bootstrap_market,
    crash_market,
    gbm_market,
    hidden_regime_market,
    kelly_market,
    leaked,
    load_market,
    mean_reverting_market,
    regime_market,
    signal_market,
    student_t_market,
)
from rllib_portfolio.market.simulators.markov import filtered_beliefs
from tests.market.tables import config, random_table

SIMULATORS = [
    *(kelly_market, gbm_market, crash_market, student_t_market),
    *(regime_market, hidden_regime_market, mean_reverting_market, signal_market),
]


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_a_seed_fixes_the_market(simulate):
    one, same, other = simulate(num_days=200), simulate(num_days=200), simulate(num_days=200, seed=1)
    np.testing.assert_array_equal(one.returns, same.returns)
    assert one.data_hash == same.data_hash != other.data_hash
    assert (one.returns != other.returns).any()
    assert not one.returns[0].any()
    assert any("simulated, not real" in note for note in one.notes)


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_windows_are_60_20_20_of_the_rows(simulate):
    assert simulate(num_days=1000).windows == {
        "train": (2, 600),
        "validation": (600, 800),
        "test": (800, 1000),
        "all": (2, 1000),
    }


def test_kelly_market_has_two_outcomes_with_the_given_odds():
    market = kelly_market(up=0.3, down=0.1, probability=0.4, num_days=50_000, cash_rate=0.05)
    returns = market.returns[1:, 0]
    assert market.assets == ("RISKY",)
    assert set(returns) == {0.3, -0.1}
    assert (returns > 0).mean() == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / 50_000))
    assert market.cash_returns[1] == pytest.approx(1.05 ** (1 / 252) - 1)
    assert market.asset_features.shape == (50_000, 1, 0)
    assert market.market_features.shape == (50_000, 0)


def test_the_kelly_fraction_grows_fastest():
    market = kelly_market()
    fractions = np.linspace(0, 1, 21)
    growth = np.log1p(fractions * market.returns[1:]).mean(axis=0)
    assert fractions[growth.argmax()] == pytest.approx(0.58 / 0.2 - 0.42 / 0.2, abs=0.051)  # 0.8


def test_gbm_market_has_the_given_moments():
    market = gbm_market(mean=(0.1, 0.3), volatility=(0.2, 0.4), correlation=0.5, num_days=200_000)
    log_returns = np.log1p(market.returns[1:])
    deviation = log_returns.std(axis=0) * np.sqrt(252)
    np.testing.assert_allclose(deviation, [0.2, 0.4], rtol=0.01)
    assert np.corrcoef(log_returns.T)[0, 1] == pytest.approx(0.5, abs=0.01)
    # E[1 + r] = exp(mean / 252); the standard error of 252 * mean(r) is volatility * sqrt(252 / days)
    error = 4 * np.array([0.2, 0.4]) * np.sqrt(252 / 200_000)
    assert (abs(252 * np.log(1 + market.returns[1:].mean(axis=0)) - [0.1, 0.3]) < error).all()


def test_gbm_market_takes_a_matrix_and_names():
    market = gbm_market(
        mean=(0, 0, 0), volatility=(0.1, 0.1, 0.1), assets=("X", "Y", "Z"), num_days=50_000,
        correlation=[[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]],
    )  # fmt: skip
    assert market.assets == ("X", "Y", "Z")
    np.testing.assert_allclose(np.corrcoef(market.returns[1:].T), [[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]], atol=0.02)


def test_a_crash_market_has_rare_losses_beside_assets_that_know_nothing_of_them():
    market = crash_market(mean=(0.0, 0.1), volatility=(0.2, 0.3), num_days=200_000)
    assert market.assets == ("CRASH", "ASSET_0", "ASSET_1")
    crashes = market.returns[1:, 0] < 0
    assert set(market.returns[1:, 0]) == {0.0022963, -0.5}
    assert crashes.mean() == pytest.approx(0.004, abs=4 * np.sqrt(0.004 / 200_000))
    np.testing.assert_allclose(np.corrcoef(market.returns[1:].T), np.eye(3), atol=0.01)
    np.testing.assert_array_equal(
        market.returns[:, 1:], gbm_market(mean=(0.0, 0.1), volatility=(0.2, 0.3), num_days=200_000).returns
    )


def test_student_t_returns_have_fat_tails_that_come_together():
    market = student_t_market(
        mean=(0.001, 0.002), volatility=(0.02, 0.03), correlation=0.5, num_days=200_000, periods_per_year=1
    )
    returns = market.returns[1:]
    np.testing.assert_allclose(returns.mean(axis=0), [0.001, 0.002], atol=4 * 0.03 / np.sqrt(200_000))
    np.testing.assert_allclose(returns.std(axis=0), [0.02, 0.03], rtol=0.05)
    assert np.corrcoef(returns.T)[0, 1] == pytest.approx(0.5, abs=0.03)
    # P(|t_3| > 4) = 0.0280 of scale 0.02 / sqrt(3); 0.0028 for a normal asset with the volatility of this one
    wild = abs(returns - [0.001, 0.002]) > 4 * np.array([0.02, 0.03]) / np.sqrt(3)
    np.testing.assert_allclose(wild.mean(axis=0), 0.0280, rtol=0.05)
    uncorrelated = student_t_market(correlation=0.0, num_days=200_000).returns[1:]
    wild = abs(uncorrelated) > 4 * uncorrelated.std(axis=0)
    assert wild.all(axis=1).mean() > 10 * wild.mean(axis=0).prod()


def test_no_asset_loses_more_than_the_worst_loss():
    market = student_t_market(mean=(0.0, 0.0), volatility=(1.0, 1.5), worst_loss=0.6, num_days=50_000)
    assert -0.6 - 1e-12 <= market.returns.min() < -0.5
    for data in ({"volatility": 0.5, "num_assets": 3}, {"volatility": 0.5, "correlation": 0.9}):
        assert signal_market(**data, worst_loss=0.7, num_days=20_000).returns.min() >= -0.7 - 1e-12


def test_the_signal_of_an_asset_decides_its_mean_of_the_next_day():
    market = signal_market(num_assets=3, edge=0.01, volatility=0.02, correlation=0.4, stay=0.8, num_days=100_000)
    signals = market.asset_features[:, :, 0]
    assert market.asset_feature_names == ("signal",)
    assert set(signals.ravel()) == {-1.0, 1.0}
    assert (signals[1:] == signals[:-1]).mean() == pytest.approx(0.8, abs=0.01)
    np.testing.assert_allclose(np.corrcoef(signals.T), np.eye(3), atol=0.05)
    surprises = market.returns[1:] - 0.01 * signals[:-1]
    error = 4 * 0.02 / np.sqrt(50_000)
    for asset in range(3):
        for sign in (-1.0, 1.0):
            assert surprises[signals[:-1, asset] == sign, asset].mean() == pytest.approx(0.0, abs=error)
    assert surprises.std() == pytest.approx(0.02, rel=0.01)
    np.testing.assert_allclose(np.corrcoef(surprises.T), 0.4 + 0.6 * np.eye(3), atol=0.01)


def test_the_regime_of_a_day_decides_the_odds_of_the_next():
    market = regime_market(num_days=50_000, stay=0.9)
    regime = market.market_features.argmax(axis=1)
    assert market.market_feature_names == ("regime_0", "regime_1")
    assert (market.market_features.sum(axis=1) == 1).all()
    assert (regime[1:] == regime[:-1]).mean() == pytest.approx(0.9, abs=0.01)
    gains = market.returns[1:] > 0
    for k, odds in enumerate(((0.58, 0.42), (0.42, 0.58))):
        np.testing.assert_allclose(gains[regime[:-1] == k].mean(axis=0), odds, atol=0.015)


def test_a_belief_is_bayes_rule_and_a_step_of_the_chain():
    beliefs = filtered_beliefs(np.array([[True], [False]]), np.array([[0.8], [0.4]]), stay=0.9)
    # a gain: 0.5 * 0.8 against 0.5 * 0.4, that is 2/3; then 0.9 * 2/3 + 0.1 * 1/3 = 19/30
    # a loss: 19/30 * 0.2 against 11/30 * 0.6, that is 3.8 / 10.4; then 0.9 * 38/104 + 0.1 * 66/104 = 40.8 / 104
    np.testing.assert_allclose(beliefs[:, 0], [0.5, 19 / 30, 40.8 / 104], rtol=1e-12)
    np.testing.assert_allclose(beliefs.sum(axis=1), 1.0, rtol=1e-12)


def test_beliefs_are_the_odds_that_days_have():
    market = hidden_regime_market(num_days=100_000)
    belief, gain = market.market_features[:-1, 0], market.returns[1:, 0] > 0
    for low in (0.1, 0.3, 0.5, 0.7):
        among = (belief >= low) & (belief < low + 0.2)
        expected = (0.65 * belief[among] + 0.35 * (1 - belief[among])).mean()
        assert gain[among].mean() == pytest.approx(expected, abs=4 * np.sqrt(0.25 / among.sum()))


def test_beliefs_do_not_see_the_next_day():
    plain = hidden_regime_market(num_days=60)
    gains = plain.returns[1:] > 0
    changed = gains.copy()
    changed[30:] = ~changed[30:]
    odds = np.array([[0.65], [0.35]])
    one, other = filtered_beliefs(gains, odds, 0.95), filtered_beliefs(changed, odds, 0.95)
    np.testing.assert_array_equal(one[:31], other[:31])
    assert (one[31:] != other[31:]).all()
    np.testing.assert_array_equal(plain.market_features, one.astype(np.float32))


def test_a_mean_reverting_price_is_drawn_back():
    market = mean_reverting_market(half_width=4, num_days=50_000)
    balance = np.rint(market.market_features[:, 0] * 4).astype(int)
    np.testing.assert_array_equal(np.diff(balance), np.rint(market.returns[1:, 0] / 0.2))
    assert set(balance) == set(range(-4, 5))
    for x in range(-4, 5):
        gains = market.returns[1:, 0][balance[:-1] == x] > 0
        assert gains.mean() == pytest.approx((1 - x / 4) / 2, abs=4 * np.sqrt(0.25 / len(gains)))


def test_bootstrap_draws_whole_days_in_blocks():
    table = random_table(700)
    market = bootstrap_market(table, mean_block_days=20, config=config())
    real = np.round(table.price_values[1:] / table.price_values[:-1] - 1, 12)
    rows = {tuple(row): position for position, row in enumerate(real)}
    drawn = np.array([rows[tuple(row)] for row in np.round(market.returns[1:], 12)])  # each is one day of the table
    continues = (drawn[1:] == (drawn[:-1] + 1) % len(real)).mean()
    assert continues == pytest.approx(1 - 1 / 20, abs=0.03)
    assert any("resampled, not real" in note for note in market.notes)
    assert market.asset_feature_names  # prepared like a real table
    assert market.index_returns is not None
    assert bootstrap_market(table, num_days=500, config=config()).num_days == 500


def test_a_leak_knows_the_next_day():
    market = gbm_market(num_days=500)
    leaking = leaked(market)
    assert leaking.asset_feature_names == ("next_return",)
    feature = leaking.asset_features[:-1, :, 0]
    assert np.corrcoef(feature.ravel(), market.returns[1:].ravel())[0, 1] == pytest.approx(1.0)
    assert not leaking.asset_features[-1].any()
    assert any(note.startswith("LEAK") for note in leaking.notes)


# `tests/cli/test_bad_values.py` gives bad values to every parameter; here is each kind of refusal.
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "coin"}, "source must be one of kelly, gbm, .*mean_reverting, signal, bootstrap, got 'coin'"),
        ({"source": "kelly", "odds": 2}, "must have known parameters, got odds. Choose from up, down, probability"),
        ({"source": "kelly", "probability": 1.5}, r"probability must be a number in \[0, 1\], got 1.5"),
        ({"source": "kelly", "probability": "half"}, "probability: input should be a valid number, .*got 'half'"),
        ({"source": "kelly", "num_days": 3}, "num_days must be a whole number of at least 10, got 3"),
        ({"source": "gbm", "mean": [0.1]}, "one number per asset, got 1 and 2"),
        ({"source": "gbm", "mean": [0.1, "x"]}, "mean.1: input should be a valid number, .*got 'x'"),
        ({"source": "gbm", "correlation": [[1, 0.5], [0.4, 1]]}, "correlation must be a number or a symmetric 2 x 2"),
        ({"source": "gbm", "correlation": [[1], [1, 2]]}, "correlation must be a number or a symmetric 2 x 2 matrix"),
        ({"source": "gbm", "correlation": 1.5}, "correlation must be positive definite, got 1.5"),
        ({"source": "gbm", "assets": ["A", "A"]}, r"assets must be 2 different names, got \['A', 'A'\]"),
        (
            {"source": "student_t", "mean": [-2, 0], "periods_per_year": 1},
            "mean must leave a day's loss below worst_loss 0.9, got -2 a day",
        ),
        ({"source": "signal", "edge": 0}, "edge must be a number in"),
        ({"source": "regime", "probability": [[0.5, 0.5], [0.5]]}, "probability must have two regimes or more"),
        ({"source": "mean_reverting", "half_width": 0}, "half_width must be a number in"),
        ({"source": "bootstrap", "mean_block_days": 0.5}, "mean_block_days must be a number in"),
    ],
)
def test_parameters_out_of_range_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        load_market(data)


# ---------------------------------------------------------------- by configuration


def test_a_configuration_gives_cash_periods_and_windows():
    explicit = MarketConfig(
        data={"source": "kelly", "num_days": 200},
        cash_rate=0.04,
        periods_per_year=250,
        train=("2000-01-03", "2000-05-31"),
        validation=("2000-06-01", "2000-07-31"),
        test=("2000-08-01", "2000-09-29"),
    )
    market = load_market(explicit)
    assert (1 + market.cash_returns[1]) ** 250 == pytest.approx(1.04)
    assert str(market.dates[market.windows["test"][0]]) == "2000-08-01"
    own_rate = load_market({"data": {"source": "kelly", "num_days": 200, "cash_rate": 0.0}, "cash_rate": 0.04})
    assert not own_rate.cash_returns.any()


@pytest.mark.parametrize("values", [{"assets": ("A",)}, {"index_path": "i.csv"}, {"cash_rate": "rate"}])
def test_settings_that_synthetic_markets_lack_are_refused(values):
    with pytest.raises(ConfigError, match=f"market.{next(iter(values))} must be"):
        load_market(MarketConfig(data={"source": "kelly"}, **values))


def test_load_market_reads_a_prepared_file_and_checks_its_fit(tmp_path):
    market = kelly_market(num_days=100)
    market.save(tmp_path / "market.npz")
    assert load_market(tmp_path / "market.npz", fitted=market.fitted).data_hash == market.data_hash
    with pytest.raises(ConfigError, match="must be fitted as the policy was"):
        load_market(str(tmp_path / "market.npz"), fitted={})


def test_the_bundled_universe_is_loaded_by_default(bundled):
    assert (bundled.num_days, bundled.num_assets) == (8313, 20)
    assert bundled.assets[:2] == ("AAPL", "AMD")
    assert any("survivors" in note for note in bundled.notes)
    assert load_market({"assets": ("AAPL", "XOM")}).assets == ("AAPL", "XOM")
