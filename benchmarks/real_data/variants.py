"""All variants by name, each with dotted settings that override the file of its algorithm. Each counts as a trial."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from rllib_portfolio.config import FeatureConfig

_ALL_FEATURES = {f"market.features.{name}": value for name, value in FeatureConfig().model_dump(mode="json").items()}


class Variant(NamedTuple):
    """Settings over tune_configs/ppo_per_asset.yaml or tune_configs/dqn_monthly.yaml."""

    algo: str
    settings: dict[str, Any]


_MARKET = {
    f"market.features.{name}": n for name, n in (("index", True), ("num_gmm_regimes", 3), ("num_hmm_regimes", 2))
}
_SIXTEEN = {"network.hidden_sizes": [16]}
_FIRST_DQN = {
    "environment.action_levels": 4,
    "training.counterfactual_actions": 0,
    "training.batch_size": 256,
    "training.learning_rate_end": None,
}
"""Settings of the search (with kappa 10) until the first walk-forward analysis; the files have the final ones."""
_FALLING = {"training.learning_rate_end": 0.0}
_COUNTERFACTUALS = {"training.counterfactual_actions": 16, "training.batch_size": 16}
_NO_STEPS = {"environment.action_levels": 1}
"""All in equities or none: quarters of cash were what the first walk held too much of."""


def _momentum(volatility_days: list[int]) -> dict[str, Any]:
    """A year's momentum, and volatilities, as the only features."""
    days = {"momentum_days": [252], "volatility_days": volatility_days, "drawdown_days": None}
    return {f"market.features.{name}": value for name, value in days.items()}


def _ppo(more: dict[str, Any] | None = None, **settings: Any) -> Variant:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return Variant("ppo", {**_SIXTEEN, **(more or {}), **named})


def _dqn(*changes: dict[str, Any], kappa: float = 10.0, **settings: Any) -> Variant:
    changed = {name: value for change in changes for name, value in change.items()}
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return Variant("dqn", {**_FIRST_DQN, "environment.risk_aversion": kappa, **changed, **named})


_later_dqn = partial(_dqn, kappa=200.0)


VARIANTS: dict[str, Variant] = {
    "ppo": Variant("ppo", {}),
    "ppo sixteen hidden units": _ppo(),
    "ppo momentum and volatility": _ppo(_momentum([63])),
    "ppo momentum alone": _ppo(_momentum([])),
    "ppo all features as ranks": _ppo(_ALL_FEATURES, market__features__cross_section="ranks"),
    "ppo features as values": _ppo(market__features__cross_section="values"),
    "ppo with the market's features": _ppo(_MARKET),
    "ppo half the steps": _ppo(schedule__total_timesteps=20_480),
    "ppo three times the steps": _ppo(schedule__total_timesteps=122_880),
    "ppo one hidden unit": _ppo(network__hidden_sizes=[1]),
    "ppo four hidden units with the market's features": _ppo(_MARKET, network__hidden_sizes=[4]),
    "ppo four hidden units, all features as ranks": _ppo(
        _ALL_FEATURES, market__features__cross_section="ranks", network__hidden_sizes=[4]
    ),
    "ppo flat network": _ppo(network__architecture="flat", network__hidden_sizes=[256, 256]),
    "ppo cash like an asset": _ppo(network__initial_cash_logit=0.0),
    "ppo active log return": _ppo(environment__reward="active_log_return"),
    "ppo differential information": _ppo(
        environment__reward="differential_information", environment__sharpe_decay=0.05
    ),
    "ppo log return": _ppo(environment__reward="log_return"),
    "ppo differential Sharpe": _ppo(environment__reward="differential_sharpe", environment__sharpe_decay=0.05),
    "ppo kappa 30": _ppo(environment__risk_aversion=30.0),
    "ppo every five days": _ppo(environment__rebalance_days=5),
    "ppo every day": _ppo(environment__rebalance_days=1),
    "ppo selected by validation": _ppo(schedule__evaluation_interval=4096, schedule__checkpoint_interval=4096),
    "dqn": Variant("dqn", {}),
    "dqn kappa 10": _dqn(),
    "dqn eight environments, smaller batches": _dqn(
        training__learning_rate=1e-4,
        training__batch_size=64,
        training__rollout_steps=4,
        training__steps_per_update=4,
        resources__num_envs_per_env_runner=8,
    ),
    "dqn kappa 50": _dqn(kappa=50.0),
    "dqn kappa 200, a quarter of the steps": _later_dqn(schedule__total_timesteps=10_240),
    "dqn every day": _dqn(environment__rebalance_days=1),
    "dqn excess over N+1": _dqn(environment__reward="excess_log_return"),
    "dqn twice the width": _dqn(network__hidden_sizes=[32, 32]),
    "dqn kappa 200": _later_dqn(),  # chosen for the first walk
    "dqn a rate that falls": _later_dqn(_FALLING),
    "dqn no steps of equity": _later_dqn(_NO_STEPS),
    "dqn no steps of equity, a rate that falls": _later_dqn(_NO_STEPS, _FALLING),
    "dqn no steps of equity, a rate that falls, kappa 500": _later_dqn(_NO_STEPS, _FALLING, kappa=500.0),
    "dqn no steps of equity, a rate that falls, kappa 1000": _later_dqn(_NO_STEPS, _FALLING, kappa=1000.0),
    "dqn counterfactuals": _later_dqn(_COUNTERFACTUALS),
    "dqn counterfactuals, a rate that falls": _later_dqn(_COUNTERFACTUALS, _FALLING),
}

PROTOTYPE = (
    "trained 300 steps on the information ratio",
    "trained three times longer",
    "trained on the Sharpe ratio",
    "trained on mean-variance",
    "trained 300 steps on the information ratio, execution lag 1",
)
"""Trials of a prototype that is not in this repository: it back-propagated through the accounting."""

NUM_SKETCHES = 52
"""Tried before the design folds stood, all on days before 2000, without a record: 12 runs of PPO on three forward folds
(1994 to 1999), and 10 sets of features at 4 sizes in plain torch. They count as trials."""
