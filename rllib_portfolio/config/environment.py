"""Settings of trading and of the environment."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rllib_portfolio.config.fields import Coefficient, CostBps, Days, Fraction, StrictModel


class ExecutionConfig(StrictModel):
    """Transaction costs and portfolio limits, which are the same for every policy and every baseline."""

    cost_bps: CostBps | tuple[CostBps, ...] = 10.0
    """Proportional cost in basis points of the traded amount: one number, or one per asset."""
    impact: float = Field(0.0, ge=0, le=100)
    """k of the impact term k * sigma * |dw|^1.5, where sigma is the asset's trailing daily volatility. With `fund_size`
    this is Y of the square-root law, and k = Y * sqrt(fund_size / dollar volume) of each asset and day."""
    fund_size: float | None = Field(None, gt=0)
    """Size of the fund in the currency of the prices, which the impact and `max_participation` need together with a
    volume column; null ignores volumes."""
    max_participation: float = Field(1.0, gt=0, le=1)
    """Largest trade of one decision as a fraction of the asset's average daily volume, with `fund_size`."""
    exit_cost_bps: CostBps | None = None
    """Proportional cost of selling an asset whose life ends without a stated return; null: its `cost_bps`."""
    execution_lag: Literal[0, 1] = 1
    """Days between the close that is observed and the close that is traded."""
    rebalance_days: Days = 1
    """Days between decisions."""
    max_weight: float = Field(1.0, gt=0, le=1)
    """Largest target weight of a risky asset; the excess goes to cash."""
    max_group_weight: float = Field(1.0, gt=0, le=1)
    """Largest target weight of a group of assets (column `group` of assets.csv); the excess goes to cash."""
    max_turnover: float = Field(1.0, gt=0, le=1)
    """Largest turnover (half the L1 distance) of one decision."""
    min_cash: Fraction = 0.0
    """Smallest target weight of cash."""


class EnvironmentConfig(ExecutionConfig):
    """Actions, rewards and episodes of an environment."""

    action_mode: Literal["continuous", "discrete"] = "continuous"
    logit_scale: float = Field(10.0, gt=0, le=100)
    """Continuous actions: weights = softmax(logit_scale * action)."""
    partial_trading: bool = False
    """Continuous actions: one more component a trades only a part of the way from the weights known at the decision to
    these weights, the trading rate sigmoid(logit_scale * a) (Garleanu and Pedersen 2013)."""
    action_table: Literal["auto", "lattice", "ladder", "quantiles"] = "auto"
    """Discrete actions: lattice on the simplex, ladder of equity shares with a tilt to each asset, or quantiles, a
    ladder with tilts to the fifth of the assets in which a feature is highest or lowest. auto: the lattice for up to 3
    assets that are always there, otherwise the ladder for up to 60, otherwise quantiles."""
    action_levels: int = Field(4, ge=1, le=100)
    """Discrete actions: number of steps between no equity and all equity."""
    action_features: tuple[str, ...] = ()
    """Asset features of the quantiles table. Empty: those with the longest window of momentum, volatility and
    log_return, or the first asset feature if there are none."""
    reward: str = "excess_log_return"
    """One of: log_return; excess_log_return, relative to the uniform portfolio with cash; differential_sharpe, of the
    return over cash; active_log_return, active_mean_variance and differential_information, relative to 1/N of the risky
    assets; drawdown_penalised; mean_variance; `module:function`."""
    sharpe_decay: float = Field(1 / 252, gt=0, lt=1)
    """eta of the differential Sharpe and information ratios: the weight of one decision's return in their moments."""
    drawdown_penalty: Coefficient = 1.0
    """Weight of an increase of the drawdown in the drawdown_penalised reward."""
    risk_aversion: Coefficient = 1.0
    """Factor kappa of the penalty in the mean-variance rewards, R - kappa / 2 R^2."""
    episode_days: Days | None = 252
    """Days after which an episode is truncated; null walks the whole window."""
    random_start: bool | None = None
    """Start episodes at a random day; null: true for the training window, false for all others."""

    @model_validator(mode="after")
    def _only_continuous_actions_have_a_rate(self) -> Self:
        if self.partial_trading and self.action_mode == "discrete":
            raise ValueError(
                "environment.partial_trading must be false with discrete actions, got true. A table of portfolios has "
                "no trading rate."
            )
        return self


class ContinuousEnvironmentConfig(EnvironmentConfig):
    """The environment of an algorithm with continuous actions."""

    action_mode: Literal["continuous"] = "continuous"


class DiscreteEnvironmentConfig(EnvironmentConfig):
    """The environment of an algorithm with discrete actions."""

    action_mode: Literal["discrete"] = "discrete"
    partial_trading: Literal[False] = False
