"""Action maps, which turn the actions of a policy into target weights on the simplex.

Actions are mapped only here; no policy network applies a softmax of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray, namespace
from rllib_portfolio.market import CASH
from rllib_portfolio.market.universe import BoolArray


class ActionInputs(NamedTuple):
    """What an action map may use besides the actions, as known at the decision; None where it is not at hand."""

    volatility: FloatArray | None = None
    """Trailing daily volatility, [B, N]; only the inverse-volatility action needs it."""
    tradable: BoolArray | None = None
    """Whether each asset may be bought, [B, N]; None if all may."""
    features: FloatArray | None = None
    """Features of each asset as observed, [B, N, F]; only maps that say so (`needs_features`) need them."""
    known: FloatArray | None = None
    """Weights of the portfolio as known at the decision (see `kernel.known_weights`), [B, N+1]; only partial trading
    needs them."""


NO_INPUTS = ActionInputs()
TRADING_RATE = "trading rate"
"""Name of the component of an action that sets the trading rate."""


def softmax_weights(actions: FloatArray, logit_scale: float, tradable: BoolArray | None = None) -> FloatArray:
    """Return the target weights softmax(logit_scale * action) over cash and the tradable assets, [B, N+1].

    The zero action gives the uniform portfolio. With logit_scale 10 every corner is reached to within N e^-20.

    Args:
        actions: Actions, [B, N+1], each in [-1, 1], cash last; an array or a tensor.
        logit_scale: Factor by which the actions are multiplied, above 0.
        tradable: Whether each asset may be bought, [B, N]; None if all may. The others get weight 0.
    """
    xp, logits = namespace(actions), _logits(actions, logit_scale)
    if tradable is not None:
        logits = xp.concatenate([xp.where(tradable, logits[..., :-1], -np.inf), logits[..., -1:]], axis=-1)
    if xp is not np:
        return xp.softmax(logits, -1)  # type: ignore[no-any-return]
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def _logits(actions: FloatArray, logit_scale: float) -> FloatArray:
    return logit_scale * (np.asarray(actions, dtype=np.float64) if namespace(actions) is np else actions)


def partial_weights(target: FloatArray, known: FloatArray, logits: FloatArray) -> FloatArray:
    """Return the weights after a trade of part of the way to the target, w = w' + g (target - w'), [..., N+1].

    The trading rate is g = sigmoid(logit): 0 keeps the known weights, and 1 trades to the target. Garleanu and Pedersen
    (2013), "Dynamic trading with predictable returns and transaction costs", proposition 2, show that trading at a rate
    below 1 is optimal under quadratic costs.

    Args:
        target: Target weights, [..., N+1]; an array or a tensor.
        known: Weights w' of the portfolio as known at the decision, [..., N+1].
        logits: Logit of the trading rate, [..., 1].
    """
    rate = 0.5 + 0.5 * namespace(logits).tanh(0.5 * logits)  # the sigmoid, without an exponential that may overflow
    return known + rate * (target - known)  # type: ignore[no-any-return]


class ActionMap(Protocol):
    """The valid actions, and the target weights that each of them asks for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the discrete actions, or of the components of a continuous action, for reports."""
        ...

    @property
    def space(self) -> spaces.Space[Any]:
        """The Gymnasium space of the action of one portfolio."""
        ...

    @property
    def needs_features(self) -> bool:
        """Whether `target` needs the features of the assets."""
        ...

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number of a batch of actions is valid; the result has the shape of the batch."""
        ...

    def target(self, actions: NDArray[Any], held: FloatArray, inputs: ActionInputs) -> FloatArray:
        """Return target weights [B, N+1] for B actions.

        Args:
            actions: Actions in the space, with a leading axis B.
            held: Weights that a hold action keeps, [B, N+1]. An environment passes the drifted weights w'_t, whatever
                its execution lag.
            inputs: What is known at the decision.
        """
        ...

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each of B actions trades nothing, whatever the portfolio holds, [B]."""
        ...

    def available(self, inputs: ActionInputs) -> NDArray[np.bool_] | None:
        """Return whether each of K discrete actions can be traded, [B, K]; None if all can. Policies choose no other.

        Args:
            inputs: What is known at the decision.
        """
        ...

    def to_json(self) -> dict[str, Any] | None:
        """Return the values that `action_map_of` needs in addition to the environment's settings, or None."""
        ...


@dataclass(frozen=True, slots=True)
class SoftmaxMap:
    """Continuous actions: weights = softmax(logit_scale * action) over the assets and cash.

    With partial trading, an action has one more component, the last. It sets the trading rate, the part of the way from
    the known weights to these target weights that is traded (see `partial_weights`). The zero action trades half of it.

    Attributes:
        assets: Names of the N risky assets.
        logit_scale: Factor by which the actions are multiplied.
        partial_trading: Whether actions have a trading rate.
    """

    assets: tuple[str, ...]
    logit_scale: float
    partial_trading: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the components of an action."""
        return (*self.assets, CASH, *((TRADING_RATE,) if self.partial_trading else ()))

    @property
    def space(self) -> spaces.Box:
        """The space of N+1 numbers in [-1, 1], or of N+2 with partial trading."""
        return spaces.Box(-1.0, 1.0, (len(self.names),), np.float32)

    @property
    def needs_features(self) -> bool:
        """False: the softmax uses the actions alone."""
        return False

    def contains(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return whether each number lies in [-1, 1]."""
        return np.asarray(np.abs(actions) <= 1.0)

    def target(self, actions: NDArray[Any], held: FloatArray, inputs: ActionInputs) -> FloatArray:
        """Return the softmax of the scaled actions over the tradable assets and cash, or part of the way to it.

        Args:
            actions: Actions in the space, with a leading axis B; an array or a tensor, as are the inputs.
            held: Ignored: partial trading starts at the known weights, so that targets reveal no later return.
            inputs: What is known at the decision.

        Raises:
            ValueError: If actions have a trading rate and the known weights are missing.
        """
        if not self.partial_trading:
            return softmax_weights(actions, self.logit_scale, inputs.tradable)
        if inputs.known is None:
            raise ValueError("known must be given for partial trading, got none. Pass the weights of the portfolio.")
        target = softmax_weights(actions[..., :-1], self.logit_scale, inputs.tradable)
        return partial_weights(target, inputs.known, _logits(actions[..., -1:], self.logit_scale))

    def is_hold(self, actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return False for each action, since no continuous action means hold in every portfolio."""
        return np.zeros(len(actions), dtype=np.bool_)

    def available(self, inputs: ActionInputs) -> None:
        """Return None: every action can be traded, since the softmax leaves out what is not tradable."""

    def to_json(self) -> None:
        """Return None, since the settings of the environment define the map."""


@cache
def equal_weights(num_assets: int, share: float = 1.0) -> FloatArray:
    """Return the 1/N portfolio, [N+1]: `share` of the wealth in equal parts in the risky assets, the rest in cash.

    The array is read-only, because calls with the same arguments share it.

    Args:
        num_assets: Number N of risky assets.
        share: Fraction of the wealth in risky assets, in [0, 1].
    """
    weights = np.append(np.full(num_assets, share / num_assets), 1.0 - share)
    weights.setflags(write=False)
    return weights


def equal_weights_over(members: BoolArray) -> FloatArray:
    """Return the 1/N portfolio over the members of each day, [..., N+1], all in cash where there are none.

    Args:
        members: Whether each asset is a member, [..., N].
    """
    count = members.sum(-1, keepdims=True)
    return np.concatenate([members / np.maximum(count, 1), count == 0], axis=-1)


def inverse_volatility_weights(volatility: FloatArray, tradable: BoolArray | None = None) -> FloatArray:
    """Return weights [..., N+1] proportional to 1 / sigma, without cash.

    An asset whose price does not change (filled days, a trading halt) is not free of risk. Therefore sigma is raised to
    at least a tenth of the median over the assets.

    Args:
        volatility: Volatility sigma of each asset, [..., N].
        tradable: Whether each asset may be bought, [..., N]; None if all may. The others get weight 0.
    """
    if tradable is not None:
        return _inverse_volatility_over(volatility, tradable)
    floor = np.maximum(0.1 * np.median(volatility, axis=-1, keepdims=True), 1e-8)
    inverse = 1.0 / np.maximum(volatility, floor)
    weights = inverse / inverse.sum(-1, keepdims=True)
    return np.concatenate([weights, np.zeros_like(weights[..., :1])], axis=-1)


def _inverse_volatility_over(volatility: FloatArray, tradable: BoolArray) -> FloatArray:
    # A row without a tradable asset takes the median of all, so that numpy does not warn; its weights are all cash.
    known = np.where(tradable | ~tradable.any(-1, keepdims=True), volatility, np.nan)
    floor = np.maximum(0.1 * np.nanmedian(known, axis=-1, keepdims=True), 1e-8)
    inverse = np.where(tradable, 1.0 / np.maximum(volatility, floor), 0.0)
    total = inverse.sum(-1, keepdims=True)
    return np.concatenate([inverse / np.where(total > 0.0, total, 1.0), total == 0.0], axis=-1)
