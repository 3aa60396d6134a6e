"""Market regimes: a Gaussian mixture and a hidden Markov model, fitted on the training window without look-ahead bias.

Both order their states from low to high volatility, so that a label means the same in every run. Their probabilities at
t use only returns up to t and parameters fitted before: posterior probabilities of the mixture, and FILTERED (never
smoothed) probabilities of the Markov model. The fitted models are plain numbers, which are stored as JSON.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.features import VOLATILITY_DAYS

logger = logging.getLogger(__name__)

ROWS_PER_STATE = 50
"""Fewest training days per regime."""

EM_ROUNDS, EM_ITERATIONS, EM_TOLERANCE = 8, 25, 0.05
"""The Markov model is fitted in rounds of iterations until one round gains less log likelihood than the tolerance."""

LARGEST_MOVE = 10.0
"""Limit of daily moves in the Markov model, in standard deviations of the training window."""


@dataclass(frozen=True, slots=True)
class GaussianMixtureModel:
    """A mixture of K Gaussians over the monthly mean and the monthly volatility of market returns.

    Both are standardised by `center` and `scale`, their means and standard deviations in the training window.
    """

    weights: list[float]  # [K]
    means: list[list[float]]  # [K, 2]
    covariances: list[list[list[float]]]  # [K, 2, 2]
    center: list[float]
    scale: list[float]
    has_converged: bool

    def probabilities(self, observations: FloatArray) -> FloatArray:
        """Return the posterior probability of each component, [T, K], for `mixture_observations`, [T, 2]."""
        centred = (observations - np.array(self.center)) / np.array(self.scale)
        difference = centred[:, None, :] - np.array(self.means)
        covariances = np.array(self.covariances)
        # This einsum does not use BLAS, so that the result of a row does not depend on the number of rows.
        distance = np.einsum("tki,kij,tkj->tk", difference, np.linalg.inv(covariances), difference)
        log_density = np.log(self.weights) - 0.5 * (np.linalg.slogdet(covariances)[1] + distance)
        density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
        probabilities: FloatArray = density / density.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True, slots=True)
class MarkovModel:
    """A Markov chain over K states, each with its own mean and variance of daily returns.

    Attributes:
        parameters: Transitions, means and variances (of returns in units of `scale`), in the order of statsmodels.
        order: Indices in statsmodels of the states, sorted by variance, [K].
        scale: Standard deviation of returns in the training window.
        has_converged: Whether the maximisation of the likelihood converged.
    """

    parameters: list[float]
    order: list[int]
    scale: float
    has_converged: bool

    def probabilities(self, returns: FloatArray) -> FloatArray:
        """Return the filtered probability of each state, [T, K], for log returns of the market, [T].

        The chain starts from its stationary distribution.
        """
        model = _markov_regression(_moves(returns, self.scale), len(self.order))
        # The raw result is enough; the full one would differentiate the likelihood for standard errors.
        result = model.filter(np.array(self.parameters), return_raw=True)
        filtered: FloatArray = result.filtered_marginal_probabilities.T
        return np.ascontiguousarray(filtered[:, self.order])


def mixture_observations(returns: FloatArray) -> FloatArray:
    """Return mean and sample standard deviation of the last 21 log returns, [T, 2]; NaN until there are 21."""
    window = pd.Series(returns).rolling(VOLATILITY_DAYS)
    return np.column_stack([window.mean(), window.std()])


def fit_mixture(observations: FloatArray, num_regimes: int) -> GaussianMixtureModel:
    """Fit a Gaussian mixture to the monthly mean and volatility of market returns.

    Args:
        observations: `mixture_observations` of the training days, [T, 2].
        num_regimes: Number K of components, at least 2.

    Raises:
        DataError: If there are too few days, or they do not vary.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    _check_rows("num_gmm_regimes", observations[:, 1], num_regimes)
    center, scale = observations.mean(axis=0), observations.std(axis=0)
    mixture = GaussianMixture(num_regimes, random_state=0, max_iter=500)
    with warnings.catch_warnings():
        # Non-convergence is in `has_converged` and becomes a note of the market.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit((observations - center) / scale)
    calm_first = np.argsort(mixture.means_[:, 1], kind="stable")
    return GaussianMixtureModel(
        weights=mixture.weights_[calm_first].tolist(),
        means=mixture.means_[calm_first].tolist(),
        covariances=mixture.covariances_[calm_first].tolist(),
        center=center.tolist(),
        scale=scale.tolist(),
        has_converged=bool(mixture.converged_),
    )


def fit_markov(returns: FloatArray, num_regimes: int) -> MarkovModel:
    """Fit a hidden Markov model to market returns by expectation-maximisation (EM).

    Args:
        returns: Log returns of the market on the training days, [T].
        num_regimes: Number K of states, at least 2.

    Raises:
        DataError: If there are too few days, or they do not vary.

    Source: Hamilton (1989), "A new approach to the economic analysis of nonstationary time series"; statsmodels.
    """
    _check_rows("num_hmm_regimes", returns, num_regimes)
    scale = float(returns.std())
    moves = _moves(returns, scale)
    parameters, has_converged = _maximise_likelihood(_markov_regression(moves, num_regimes), moves, num_regimes)
    calm_first = np.argsort(parameters[-num_regimes:], kind="stable")
    return MarkovModel(parameters.tolist(), calm_first.tolist(), scale, has_converged)


def _maximise_likelihood(model: Any, moves: FloatArray, num_regimes: int) -> tuple[FloatArray, bool]:
    """Run rounds of EM; return the last finite parameters, and whether the log likelihood converged."""
    parameters, likelihood = _markov_start(moves, num_regimes), -np.inf
    with warnings.catch_warnings():
        # statsmodels warns if a transition is rounded to 1 + 1e-16, and rescales it itself. It divides by zero if the
        # probability of a state vanishes. In both cases the parameters are checked below.
        warnings.filterwarnings("ignore", message="Invalid regime transition probabilities")
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(EM_ROUNDS):
            try:
                # maxiter=0 means EM alone: BFGS on complex-step derivatives takes minutes for three or more states.
                found = model.fit(
                    parameters, em_iter=EM_ITERATIONS, maxiter=0, disp=0, warn_convergence=False, return_params=True
                )
                new_likelihood = float(model.loglike(found))
            except (np.linalg.LinAlgError, ValueError) as error:
                logger.info("Expectation-maximisation of the hidden Markov model stopped: %s", error)
                return parameters, False
            if not np.isfinite([*found, new_likelihood]).all():
                return parameters, False
            has_converged = new_likelihood - likelihood < EM_TOLERANCE
            parameters, likelihood = found, new_likelihood
            if has_converged:
                return parameters, True
    return parameters, False


def _moves(returns: FloatArray, scale: float) -> FloatArray:
    # Beyond about 38 standard deviations the densities of all states underflow, and all later rows would be NaN.
    return np.asarray(np.clip(returns / scale, -LARGEST_MOVE, LARGEST_MOVE))


def _markov_start(moves: FloatArray, num_regimes: int) -> FloatArray:
    """Return starting values: persistent states with the variances of equally many days, sorted by absolute move."""
    stay = 0.97
    transitions = np.full((num_regimes, num_regimes), (1.0 - stay) / (num_regimes - 1))
    np.fill_diagonal(transitions, stay)
    by_size = np.array_split(moves[np.argsort(np.abs(moves), kind="stable")], num_regimes)
    variances = np.maximum([float((part**2).mean()) for part in by_size], 1e-4)
    return np.concatenate([transitions[:, :-1].T.ravel(), np.zeros(num_regimes), variances])


def _markov_regression(moves: FloatArray, num_regimes: int) -> Any:
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    return MarkovRegression(moves, k_regimes=num_regimes, switching_variance=True)


def fewest_rows(config: FeatureConfig) -> int:
    """Return the number of training days that the regimes of a configuration need."""
    return max(ROWS_PER_STATE * number for number in (config.num_gmm_regimes, config.num_hmm_regimes, 0) if number != 1)


def _check_rows(name: str, values: FloatArray, num_regimes: int) -> None:
    needed = ROWS_PER_STATE * num_regimes
    if len(values) < needed:
        raise DataError(
            f"the training window must hold {needed} days for features.{name} = {num_regimes}, got {len(values)}. "
            f"Use more days, or set features.{name} to 0."
        )
    if float(values.std()) < 1e-12:
        raise DataError(
            f"market returns must vary for features.{name} = {num_regimes}, got a constant. Set features.{name} to 0."
        )


@dataclass(frozen=True, slots=True)
class RegimeModels:
    """The regime models of one run; a model that is switched off is None."""

    mixture: GaussianMixtureModel | None
    markov: MarkovModel | None

    @classmethod
    def fit(cls, returns: FloatArray, config: FeatureConfig, rows: slice) -> Self:
        """Fit the models that the configuration asks for.

        Args:
            returns: Log returns of the market, [T]; row 0 is NaN.
            config: Numbers of regimes; a model with fewer than 2 is switched off.
            rows: The training rows, after the warm-up.

        Raises:
            DataError: If there are too few training days, or they do not vary.
        """
        num_gmm, num_hmm = config.num_gmm_regimes, config.num_hmm_regimes
        return cls(
            mixture=fit_mixture(mixture_observations(returns)[rows], num_gmm) if num_gmm > 1 else None,
            markov=fit_markov(returns[rows], num_hmm) if num_hmm > 1 else None,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the models in `MarketData.fitted`."""
        gmm, hmm = values["gmm"], values["hmm"]
        return cls(gmm and GaussianMixtureModel(**gmm), hmm and MarkovModel(**hmm))

    def to_json(self) -> dict[str, Any]:
        """Return the models as plain values; JSON preserves their floats exactly."""
        return {"gmm": self.mixture and asdict(self.mixture), "hmm": self.markov and asdict(self.markov)}

    def probabilities(self, returns: FloatArray) -> dict[str, FloatArray]:
        """Return the probabilities of regimes by name, each [T], NaN in the warm-up.

        Args:
            returns: Log returns of the market, [T]; row 0 is NaN.
        """
        found = {}
        if self.mixture is not None:
            found["gmm"] = self.mixture.probabilities(mixture_observations(returns))
        if self.markov is not None:
            after_first = self.markov.probabilities(returns[1:])
            found["hmm"] = np.vstack([np.full((1, after_first.shape[1]), np.nan), after_first])
        return {f"regime_{kind}_{state}": column for kind, all_ in found.items() for state, column in enumerate(all_.T)}

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each model whose fit did not converge."""
        models = {"Gaussian mixture": self.mixture, "hidden Markov model": self.markov}
        stopped = [name for name, model in models.items() if model is not None and not model.has_converged]
        return tuple(f"The {name} did not converge; its regimes are those of the last iteration." for name in stopped)
