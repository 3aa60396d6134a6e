"""Tests of the contract of a Gymnasium environment: checkers, seeds, pickles, clear errors."""

from __future__ import annotations

import inspect
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env as check_gymnasium

from rllib_portfolio import ENV_ID
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.env.portfolio_env import resolve_market
from rllib_portfolio.env.rewards import BUILT_IN
from rllib_portfolio.env.transition import decision_rows
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from tests.env.rollouts import Step, assert_same_walk, sampled_actions, walk, walk_on

MODULE_ID = f"rllib_portfolio:{ENV_ID}"
MODES = ("continuous", "discrete")
SP500 = "sp500"


@pytest.fixture(params=["tiny", SP500])
def data(request: pytest.FixtureRequest, tiny_market: MarketData) -> str | MarketData:
    """The hand-made market, and the bundled one."""
    return tiny_market if request.param == "tiny" else SP500


def make(data: str | MarketData, **settings: Any) -> PortfolioEnv:
    """Through Gymnasium, without the wrappers, but with the spec that its checker wants."""
    env = gym.make(MODULE_ID, data=data, **settings).unwrapped
    assert isinstance(env, PortfolioEnv)
    return env


# ---------------------------------------------------------------- Gymnasium


def test_gymnasium_makes_the_environment_by_its_id_without_a_time_limit(tiny_market: MarketData) -> None:
    env = gym.make(MODULE_ID, data=tiny_market, cost_bps=25.0)
    assert isinstance(env.unwrapped, PortfolioEnv)
    assert env.unwrapped.simulation.config.cost_bps == 25.0
    assert env.spec.id == ENV_ID
    assert env.spec.max_episode_steps is None  # the environment truncates by itself, scalar and vector alike


def test_gymnasium_makes_the_vector_environment_by_its_id(tiny_market: MarketData) -> None:
    env = gym.make_vec(MODULE_ID, num_envs=3, data=tiny_market, window="test")
    assert isinstance(env, PortfolioVectorEnv)
    assert env.num_envs == 3
    assert env.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP
    assert env.observation_space.shape == (3, *env.single_observation_space.shape)
    assert env.action_space.shape == (3, 4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", MODES)
def test_gymnasiums_checker_has_nothing_to_say(data: str | MarketData, mode: str) -> None:
    check_gymnasium(make(data, action_mode=mode))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", MODES)
def test_stable_baselines_checker_has_nothing_to_say(data: str | MarketData, mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its imports say is not about us
        from stable_baselines3.common.env_checker import check_env as check_stable_baselines
    check_stable_baselines(make(data, action_mode=mode), warn=True, skip_render_check=False)


def test_the_action_space_is_a_symmetric_box_or_the_table(tiny_market: MarketData) -> None:
    assert PortfolioEnv(tiny_market).action_space == gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    discrete = PortfolioEnv(tiny_market, action_mode="discrete")
    assert discrete.action_space == gym.spaces.Discrete(36)
    assert len(discrete.action_names) == 36
    assert PortfolioEnv(tiny_market).action_names == ("A", "B", "C", "CASH")


@pytest.mark.parametrize("mode", MODES)
def test_the_spaces_hold_every_observation_and_the_flags_are_plain_booleans(data: str | MarketData, mode: str) -> None:
    env = PortfolioEnv(data, action_mode=mode, cost_bps=100.0)
    for step in walk(env, sampled_actions(env.action_space, 60), seed=1):
        assert env.observation_space.contains(step.observation)
        assert type(step.reward) is float
        assert type(step.truncated) is bool
        assert step.terminated is False


# ---------------------------------------------------------------- determinism


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_walk_exactly(data: str | MarketData, mode: str) -> None:
    settings = {"action_mode": mode, "episode_days": 12}
    env, other = PortfolioEnv(data, **settings), PortfolioEnv(data, **settings)
    actions = sampled_actions(env.action_space, 60)
    first = walk(env, actions, seed=7)
    assert_same_walk(first, walk(other, actions, seed=7))
    assert_same_walk(first, walk(env, actions, seed=7))  # and what came before leaves no trace
    assert {step.info["date"] for step in first} != {step.info["date"] for step in walk(other, actions, seed=8)}


def test_a_reset_without_a_seed_goes_on_with_the_random_stream(tiny_market: MarketData) -> None:
    env, vector = PortfolioEnv(tiny_market, episode_days=5), PortfolioVectorEnv(2, tiny_market, episode_days=5)
    for resettable in (env, vector):
        resettable.reset(seed=0)
        dates = {str(resettable.reset()[1]["date"]) for _ in range(20)}
        assert len(dates) > 5


def test_a_vector_environment_takes_one_seed_for_each_environment(tiny_market: MarketData) -> None:
    env, settings = PortfolioVectorEnv(2, tiny_market, episode_days=5), {"episode_days": 5}
    _, info = env.reset(seed=[11, 0])
    for index, seed in enumerate((11, 0)):
        assert info["date"][index] == PortfolioEnv(tiny_market, **settings).reset(seed=seed)[1]["date"]


def test_a_seed_that_is_no_python_integer_is_refused_rather_than_ignored(tiny_market: MarketData) -> None:
    with pytest.raises(TypeError):
        PortfolioVectorEnv(2, tiny_market).reset(seed=np.int64(0))
    with pytest.raises(gym.error.Error, match="Seed must be a python integer"):
        PortfolioEnv(tiny_market).reset(seed=np.int64(0))


# ---------------------------------------------------------------- pickles


@pytest.mark.parametrize("reward", [*BUILT_IN, "tests.env.user_rewards:everything"])
@pytest.mark.parametrize("mode", MODES)
def test_a_pickled_environment_goes_on_identically(tiny_market: MarketData, mode: str, reward: str) -> None:
    env = PortfolioEnv(tiny_market, action_mode=mode, reward=reward, episode_days=10)
    actions = sampled_actions(env.action_space, 40)
    last = walk(env, actions[:7], seed=2)[-1]
    copy = pickle.loads(pickle.dumps(env))
    assert_same_walk(walk_on(env, actions[7:], last), walk_on(copy, actions[7:], last))


# ---------------------------------------------------------------- actions that are refused

NAN = float("nan")


@pytest.mark.parametrize(
    "action",
    [
        [NAN, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, float("inf")],
        [0.0, 1.001, 0.0, 0.0],
        [0.0, 0.0, -2.0, 0.0],
    ],
)
def test_an_action_outside_the_box_is_refused_and_says_where(tiny_market: MarketData, action: list[float]) -> None:
    env = PortfolioEnv(tiny_market)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(4))
    text = r"^action must lie in Box\(-1\.0, 1\.0, \(4,\), float32\), got \[.*\] \(environment 0, step 3\)\. Clip it"
    with pytest.raises(InvalidAction, match=text):
        env.step(np.array(action))


@pytest.mark.parametrize("action", [-1, 36, 1000, 2.5, NAN])
def test_a_discrete_action_outside_the_table_is_refused_and_says_where(tiny_market: MarketData, action: float) -> None:
    env = PortfolioEnv(tiny_market, action_mode="discrete")
    env.reset(seed=0)
    env.step(0)
    text = rf"^action must lie in Discrete\(36\), got {action} \(environment 0, step 1\)\. Clip it"
    with pytest.raises(InvalidAction, match=text):
        env.step(action)


@pytest.mark.parametrize(
    ("mode", "action", "shapes"),
    [
        ("continuous", np.zeros(3), r"\(1, 4\), got \(1, 3\)"),
        ("continuous", np.zeros(5), r"\(1, 4\), got \(1, 5\)"),
        ("continuous", 0.0, r"\(1, 4\), got \(1,\)"),
        ("continuous", np.zeros((1, 4)), r"\(1, 4\), got \(1, 1, 4\)"),
        ("discrete", [0, 1], r"\(1,\), got \(1, 2\)"),
    ],
)
def test_an_action_of_the_wrong_shape_is_refused(tiny_market: MarketData, mode: str, action: Any, shapes: str) -> None:
    env = PortfolioEnv(tiny_market, action_mode=mode)
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=rf"^actions must have shape {shapes} \(step 0\)\. Pass one row for each"):
        env.step(action)


def test_a_vector_environment_names_the_environment_whose_action_is_bad(tiny_market: MarketData) -> None:
    env = PortfolioVectorEnv(5, tiny_market)
    env.reset(seed=0)
    env.step(np.zeros((5, 4)))
    env.step(np.zeros((5, 4)))
    actions = np.zeros((5, 4))
    actions[3, 1] = NAN
    with pytest.raises(InvalidAction, match=r"\(environment 3, step 2\)"):
        env.step(actions)
    with pytest.raises(InvalidAction, match=r"^actions must have shape \(5, 4\), got \(4, 4\)"):
        env.step(np.zeros((4, 4)))


def test_a_refused_action_changes_nothing(tiny_market: MarketData) -> None:
    env, untouched = PortfolioEnv(tiny_market), PortfolioEnv(tiny_market)
    env.reset(seed=0)
    last = Step(*untouched.reset(seed=0)[:1], 0.0, False, False, {})
    with pytest.raises(InvalidAction):
        env.step(np.full(4, NAN))
    actions = sampled_actions(env.action_space, 10)
    assert_same_walk(walk_on(env, actions, last), walk_on(untouched, actions, last))


# ---------------------------------------------------------------- arguments that are refused


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ("holdout", r"window must be one of train, validation, test, all or \(first date, last date\), got 'holdout'"),
        (("2001-01-xx", "2001-02-01"), r"window must be two ISO dates, got .*\. Write 2016-01-01\."),
        (("2001-01-15", "20010201"), r"window must be two ISO dates, got .*20010201 is not written as YYYY-MM-DD"),
        (("2001-01-15",), r"window must be two ISO dates, got \('2001-01-15',\)"),
        # A Saturday and a Sunday, and the years before the market.
        (
            ("2001-01-20", "2001-01-21"),
            r"window must hold a trading day, got 2001-01-20 to 2001-01-21 \(the tiny market",
        ),
        (("1990-01-01", "1999-12-31"), r"has 2001-01-01 to 2001-03-29\)\. Move it\."),
        # Features exist from row 3; with a lag of 1 the first decision is at row 4, the first return that of row 5.
        (
            ("2001-01-05", "2001-02-01"),
            r"window must lie between 2001-01-08 and 2001-03-29, got rows 4 to 24 of 64\. Fea",
        ),
    ],
)
def test_a_window_that_cannot_be_walked_is_refused(tiny_market: MarketData, window: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        PortfolioEnv(tiny_market, window)


def test_the_earliest_window_starts_where_the_observation_of_its_first_decision_exists(tiny_market: MarketData) -> None:
    for lag, first_row in ((1, 5), (0, 4)):
        first, last = str(tiny_market.dates[first_row]), "2001-02-01"
        env = PortfolioEnv(tiny_market, (first, last), execution_lag=lag)
        observation, _ = env.reset()
        assert observation[0] == tiny_market.first_row
        too_early = (str(tiny_market.dates[first_row - 1]), last)
        with pytest.raises(ConfigError, match=f"window must lie between {first} and"):
            PortfolioEnv(tiny_market, too_early, execution_lag=lag)


@pytest.mark.parametrize("window", [(4, 20), (10, 65), (10, 10), (20, 10)])
def test_rows_that_hold_no_day_or_lie_outside_the_market_are_refused(tiny_market: MarketData, window: Window) -> None:
    start, stop = window  # as walk-forward folds give them: half-open, of 64 rows
    with pytest.raises(ConfigError, match=f"^window must lie .*, got rows {start} to {stop} of 64"):
        decision_rows(tiny_market, window, execution_lag=1)
    assert decision_rows(tiny_market, (5, 64), execution_lag=1) == (4, 63)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"cost_bp": 10.0}, r"^cost_bp is not a known setting \(environment arguments\)$"),
        ({"cost_bps": -1.0}, r"^cost_bps.*: input should be greater than or equal to 0, got -1\.0"),
        ({"cost_bps": (1.0, 2.0)}, r"^cost_bps must be one number or 3 numbers, got 2\. Give one for each asset\.$"),
        ({"execution_lag": 2}, r"^execution_lag: input should be 0 or 1, got 2"),
        ({"max_weight": 0.0, "min_cash": 1.5}, r"^max_weight: .*, got 0\.0; min_cash: .*, got 1\.5 \(environment"),
        ({"features": {}}, r"^features must be left out beside a prepared market, got both\."),
        ({"reward": "sharpe"}, r"^reward must be one of log_return, .*, got 'sharpe'"),
    ],
)
@pytest.mark.parametrize("environment", [PortfolioEnv, PortfolioVectorEnv])
def test_an_argument_that_cannot_be_used_is_refused(
    tiny_market: MarketData, environment: Any, settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        environment(data=tiny_market, **settings)


def test_a_trading_cost_beyond_all_wealth_is_refused(tiny_market: MarketData) -> None:
    # k sigma |dw|^1.5 = 100 * 0.01 * 1.04 in A alone: buying it would cost more than everything.
    env = PortfolioEnv(tiny_market, impact=100.0, random_start=False)
    env.reset()
    text = (
        r"^impact must leave wealth positive, got a trading cost of 1\.0\d* \(2001-01-05\)\. Lower impact or max_turn"
    )
    with pytest.raises(ConfigError, match=text):
        env.step(np.array([1.0, -1.0, -1.0, -1.0]))


# ---------------------------------------------------------------- the market that the arguments name


def test_a_market_is_read_once_per_process() -> None:
    assert resolve_market(SP500) is resolve_market(SP500)
    assert resolve_market(SP500) is PortfolioEnv().simulation.market


def test_a_price_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    # One asset that rises 1 % a day, then a file of the same name in which it falls.
    path, off = tmp_path / "prices.csv", {"momentum_days": (), "volatility_days": (), "moving_average_days": ()}
    features = {
        **off,
        "log_return_days": (1,),
        **dict.fromkeys(("drawdown_days", "rsi_days", "macd_days")),
        **dict.fromkeys(("num_gmm_regimes", "num_hmm_regimes"), 0),
    }
    days = np.busday_offset("2001-01-01", np.arange(200), roll="forward")
    for growth in (1.01, 0.99):
        rows = (f"{day},{100.0 * growth**i}" for i, day in enumerate(days))
        path.write_text("\n".join(["date,A", *rows]) + "\n")
        market = PortfolioEnv(str(path), features=features).simulation.market
        assert market.returns[1:] == pytest.approx(growth - 1.0, rel=1e-9)


def test_cash_earns_the_annual_rate_over_the_periods_of_a_year(tiny_market: MarketData) -> None:
    # All cash for the 14 days of the test window at 5 % a year: 1.05^(14 / 252). The default is 2 %.
    cash = {"action_mode": "discrete", "window": "test", "reward": "log_return", "episode_days": None}
    env = PortfolioEnv(tiny_market, cash_rate=0.05, **cash)
    assert walk(env, [0] * 14)[-1].info["wealth"] == pytest.approx(1.05 ** (14 / 252), rel=1e-13)
    default = PortfolioEnv({"source": "kelly", "num_days": 60}, **cash).simulation.market
    assert default.cash_returns == pytest.approx(1.02 ** (1 / 252) - 1.0, rel=1e-12)


# ---------------------------------------------------------------- the documentation


def test_the_docstring_names_every_argument_every_reward_and_every_entry_of_info(tiny_market: MarketData) -> None:
    text = inspect.getdoc(PortfolioEnv) or ""
    arguments = {*inspect.signature(PortfolioEnv).parameters, *EnvironmentConfig.model_fields}
    arguments -= {"settings", "render_mode"}
    _, info = PortfolioEnv(tiny_market).reset()
    missing = [name for name in (*arguments, *BUILT_IN, *info) if not re.search(rf"\b{name}\b", text)]
    assert not missing


def test_the_vector_environment_takes_the_same_arguments_and_a_number_of_environments() -> None:
    scalar, vector = (inspect.signature(kind).parameters for kind in (PortfolioEnv, PortfolioVectorEnv))
    assert [name for name in vector if name != "num_envs"] == list(scalar)
    assert all(vector[name] == scalar[name] for name in scalar)


def test_a_vector_environment_wants_a_reset_before_its_first_step(tiny_market: MarketData) -> None:
    env = PortfolioVectorEnv(2, tiny_market)
    with pytest.raises(ResetNeeded, match="Call reset first"):
        env.step(np.zeros((2, 4)))


def test_a_list_of_seeds_must_have_one_for_each_environment(tiny_market: MarketData) -> None:
    with pytest.raises(ConfigError, match="seed must be one number or 2 of them, got 1"):
        PortfolioVectorEnv(2, tiny_market).reset(seed=[1])


def test_the_action_of_a_finished_environment_is_ignored_whatever_it_is(tiny_market: MarketData) -> None:
    env = PortfolioVectorEnv(2, tiny_market, episode_days=1)
    env.reset(seed=0)
    env.step(np.zeros((2, 4)))
    _, reward, _, _, _ = env.step(np.full((2, 4), np.nan))
    np.testing.assert_array_equal(reward, 0.0)
