from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.errors import DataError
from rllib_portfolio.market import regimes
from rllib_portfolio.market.regimes import (
    GaussianMixtureModel,
    MarkovModel,
    RegimeModels,
    fit_markov,
    fit_mixture,
    mixture_observations,
)


@pytest.fixture(scope="module")
def simulated():
    """2000 days of a chain with daily volatilities 0.5 % and 2 % that stays with probability 0.98."""
    rng = np.random.default_rng(3)
    state = np.cumsum(rng.random(2000) > 0.98) % 2
    returns = np.where(state, 0.02, 0.005) * rng.standard_normal(2000)
    returns[0] = np.nan
    return state, returns


# ---------------------------------------------------------------- worked by hand


def test_mixture_probabilities_are_bayes_rule():
    model = GaussianMixtureModel(
        weights=[0.75, 0.25],
        means=[[0.0, 0.0], [0.0, 2.0]],
        covariances=[[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 4.0]]],
        center=[0.0, 1.0],
        scale=[1.0, 2.0],
        has_converged=True,
    )
    # observation (0, 5) is (0, 2) after scaling. Densities without 1 / (2 pi):
    # 0.75 * exp(-4 / 2) and 0.25 * exp(0) / sqrt(4)
    calm, wild = 0.75 * math.exp(-2.0), 0.125
    np.testing.assert_allclose(
        model.probabilities(np.array([[0.0, 5.0]])), [[calm / (calm + wild), wild / (calm + wild)]]
    )


def loop_filter(
    returns: list[float], stay: tuple[float, float], mean: list[float], var: list[float]
) -> list[list[float]]:
    """The forward pass, one day at a time, from the stationary distribution."""
    probability = [(1 - stay[1]) / (2 - stay[0] - stay[1]), (1 - stay[0]) / (2 - stay[0] - stay[1])]
    rows = []
    for r in returns:
        predicted = [
            stay[0] * probability[0] + (1 - stay[1]) * probability[1],
            (1 - stay[0]) * probability[0] + stay[1] * probability[1],
        ]
        joint = [
            p * math.exp(-((r - m) ** 2) / (2 * v)) / math.sqrt(v) for p, m, v in zip(predicted, mean, var, strict=True)
        ]
        probability = [p / sum(joint) for p in joint]
        rows.append(probability)
    return rows


def test_markov_probabilities_are_the_forward_pass():
    # statsmodels' order: P(0 to 0), P(1 to 0), means, variances
    model = MarkovModel([0.9, 0.2, 0.1, -0.1, 0.5, 2.0], order=[0, 1], scale=0.01, has_converged=True)
    returns = np.array([0.003, -0.02, 0.015, 0.001])
    expected = loop_filter((returns / 0.01).tolist(), (0.9, 0.8), [0.1, -0.1], [0.5, 2.0])
    np.testing.assert_allclose(model.probabilities(returns), expected, rtol=1e-9)


def test_observations_are_the_trailing_mean_and_deviation():
    returns = np.array([np.nan, *np.arange(1.0, 23.0)])  # 1 ... 22 on days 1 to 22
    observations = mixture_observations(returns)
    assert np.isnan(observations[:21]).all()
    # 2 ... 22: mean 12, variance (n^2 - 1) / 12 * n / (n - 1) = 440 / 12 * 21 / 20
    np.testing.assert_allclose(observations[22], [12.0, math.sqrt(440 / 12 * 21 / 20)])


# ---------------------------------------------------------------- fitting


def test_markov_model_recovers_known_parameters(simulated):
    state, returns = simulated
    model = fit_markov(returns[1:], 2)
    assert model.has_converged
    stay_calm, leave_wild, *_, low, high = (model.parameters[i] for i in range(6))
    assert stay_calm == pytest.approx(0.98, abs=0.02)
    assert 1 - leave_wild == pytest.approx(0.98, abs=0.02)
    assert math.sqrt(low) * model.scale == pytest.approx(0.005, rel=0.1)
    assert math.sqrt(high) * model.scale == pytest.approx(0.02, rel=0.1)
    wild = model.probabilities(returns[1:])[:, 1]
    assert ((wild > 0.5) == state[1:]).mean() > 0.93


def test_states_are_ordered_from_calm_to_wild(simulated):
    state, returns = simulated
    mixture = fit_mixture(mixture_observations(returns)[21:], 3)
    deviations = [mean[1] for mean in mixture.means]
    assert deviations == sorted(deviations)
    wild = mixture.probabilities(mixture_observations(returns)[21:])[:, 2]
    assert np.corrcoef(wild, state[21:])[0, 1] > 0.5
    markov = fit_markov(returns[1:], 3)
    variances = np.array(markov.parameters[-3:])[markov.order]
    assert list(variances) == sorted(variances)


def test_probabilities_sum_to_one_and_survive_a_crash(simulated):
    _, returns = simulated
    models = RegimeModels.fit(returns, FeatureConfig(), slice(21, 1000))
    crash = returns.copy()
    crash[1500] = -3.0  # e^-3, a loss of 95 % in a day: hundreds of standard deviations
    columns = models.probabilities(crash)
    assert list(columns) == ["regime_gmm_0", "regime_gmm_1", "regime_gmm_2", "regime_hmm_0", "regime_hmm_1"]
    for kind in ("regime_gmm", "regime_hmm"):
        total = sum(values for name, values in columns.items() if name.startswith(kind))
        np.testing.assert_allclose(total[21:], 1.0)
    assert columns["regime_hmm_1"][1500] > 0.99


def test_fitting_twice_gives_the_same_numbers_and_json_keeps_them(simulated):
    _, returns = simulated
    one, other = (RegimeModels.fit(returns, FeatureConfig(), slice(21, 800)) for _ in range(2))
    assert one == other
    assert RegimeModels.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_regimes_that_cannot_be_told_apart_have_probabilities_all_the_same():
    rng = np.random.default_rng(0)
    returns = np.concatenate([[np.nan], rng.standard_normal(450) * 0.01])  # one state only
    models = RegimeModels.fit(returns, FeatureConfig(num_gmm_regimes=8, num_hmm_regimes=4), slice(21, 451))
    columns = models.probabilities(returns)
    assert len(columns) == 12
    assert all(np.isfinite(values[21:]).all() for values in columns.values())


def test_a_fit_that_does_not_converge_becomes_a_note_without_a_warning(simulated, monkeypatch):
    _, returns = simulated
    settled = RegimeModels.fit(returns, FeatureConfig(), slice(21, 800))
    assert (settled.mixture.has_converged, settled.markov.has_converged, settled.notes) == (True, True, ())
    monkeypatch.setattr(regimes, "EM_ROUNDS", 1)
    fit = GaussianMixture.fit
    monkeypatch.setattr(GaussianMixture, "fit", lambda self, values: fit(self.set_params(max_iter=1), values))
    stopped = RegimeModels.fit(returns, FeatureConfig(), slice(21, 800))
    assert (stopped.mixture.has_converged, stopped.markov.has_converged) == (False, False)
    assert stopped.notes == (
        "The Gaussian mixture did not converge; its regimes are those of the last iteration.",
        "The hidden Markov model did not converge; its regimes are those of the last iteration.",
    )
    assert RegimeModels.from_json(stopped.to_json()).notes == stopped.notes


@pytest.mark.parametrize(("fit", "name"), [(fit_markov, "num_hmm_regimes"), (fit_mixture, "num_gmm_regimes")])
def test_too_few_or_constant_days_are_refused(fit, name):
    values = np.random.default_rng(0).standard_normal((99, 2))
    values = values if fit is fit_mixture else values[:, 0]
    with pytest.raises(DataError, match=rf"must hold 100 days for features.{name} = 2, got 99.*to 0"):
        fit(values, 2)
    with pytest.raises(DataError, match=rf"must vary for features.{name} = 2"):
        fit(np.zeros((200, 2)) if fit is fit_mixture else np.zeros(200), 2)
