"""The no-leak certificate: sound configurations pass each check, and each check finds the mistake that it is for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.audit import CHECKS, Certificate, Check, Specimen, audit, causality
from rllib_portfolio.audit.differences import changed_entry
from rllib_portfolio.backtest.baselines import BuyAndHold
from rllib_portfolio.config import ContinuousEnvironmentConfig, EnvironmentConfig, MarketConfig
from rllib_portfolio.env import kernel
from rllib_portfolio.env.checker import Counterexample
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import MarketData, leaked, prepare_market, read_table
from rllib_portfolio.policies.strategy import MarketViewer
from tests.audit.user_code import DriftReader, Gambler, Prophet, Reversal
from tests.market.tables import NONE, SHORT, random_prices

CUSTOM = ("tests.market.custom_features:ten_day_position", "tests.market.custom_features:breadth")
NAMES = ["determinism", "no look-ahead bias", "one-asset portfolios", "costs charged"]


@pytest.fixture(scope="module")
def prices_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three assets, their index and a column of the user's over 600 days."""
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    prices = random_prices(600)
    prices.assign(index=prices.mean(axis=1), VIX=np.linspace(10.0, 30.0, 600)).to_csv(path)
    return path


def on_prices(path: Path, *custom: str, **settings: Any) -> Specimen:
    """The specimen of a table with every kind of feature, and custom ones."""
    market = MarketConfig(data=str(path), features=SHORT.model_copy(update={"custom": custom}))
    environment = {"episode_days": 60, **settings.pop("environment", {})}
    return Specimen(market, EnvironmentConfig(**environment), **settings)


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory, tiny_market: MarketData) -> Path:
    path = tmp_path_factory.mktemp("market") / "market.npz"
    tiny_market.save(path)
    return path


def on_tiny(path: Path, **settings: Any) -> Specimen:
    """The specimen of a prepared market of 64 days, three assets."""
    environment = {"episode_days": 20, **settings.pop("environment", {})}
    return Specimen(MarketConfig(data=str(path)), EnvironmentConfig(**environment), **settings)


def outcome_of(certificate: Certificate, name: str) -> Check:
    return next(check for check in certificate.checks if check.name == name)


def with_tomorrow(market: MarketData) -> MarketData:
    """The first feature of each asset replaced by the return of the next day."""
    features = market.asset_features.copy()
    features[market.first_row : -1, :, 0] = market.returns[market.first_row + 1 :]
    return replace(market, asset_features=features)


def counterexample(specimen: Specimen, name: str) -> str:
    """The text of the one check that fails."""
    certificate = audit(specimen)
    assert {check.name: check.status for check in certificate.checks if check.status == "FAIL"} == {name: "FAIL"}
    assert not certificate.passed
    assert certificate.counterexample == outcome_of(certificate, name).text
    return outcome_of(certificate, name).text


# ---------------------------------------------------------------- what is sound passes


@pytest.mark.slow
def test_a_table_with_custom_features_and_user_columns_gets_its_certificate(prices_path: Path) -> None:
    told: list[str] = []
    certificate = audit(on_prices(prices_path, *CUSTOM, policy=BuyAndHold("held")), told.append)
    assert [(check.name, check.status) for check in certificate.checks] == [(name, "PASS") for name in NAMES]
    assert told == NAMES == list(CHECKS)
    assert certificate.passed
    assert certificate.counterexample is None
    causal = outcome_of(certificate, "no look-ahead bias").text
    # 8 features and a custom one of each of 3 assets, breadth, VIX, and 2 + 2 regimes: 33 numbers a day
    assert causal.startswith(
        "33 features on every day up to t, observations and decisions of held and 13 baselines for the "
        "trades of the 45 days up to t + 1, t = 20"
    )
    assert causal.count(" with all fitted models kept, and ") == causal.count(" with everything fitted again") == 1
    assert len(re.findall(r"20\d\d-\d\d-\d\d", causal)) == 6
    market = prepare_market(read_table(on_prices(prices_path).market_config), on_prices(prices_path).market_config)
    assert certificate.facts["data hash"] == market.data_hash
    assert certificate.facts["test window"] == f"{market.dates[480]} to {market.dates[599]}"
    assert certificate.facts["numpy"] == np.__version__
    assert any("User columns are read as features (VIX)" in note for note in certificate.notes)
    assert "It cannot prove" in certificate.notes[-1]


@pytest.mark.slow
def test_on_newer_prices_nothing_is_fitted_and_new_days_are_covered(prices_path: Path) -> None:
    old = on_prices(prices_path)
    table = old.table
    assert table is not None
    cut = replace(table, prices=table.prices[:500], index=table.index[:500], extra=table.extra[:500])
    fitted = prepare_market(cut, old.market_config).fitted
    specimen = on_prices(prices_path, fitted=fitted, is_newer_data=True)
    assert specimen.market.windows["new"] == (500, 600)
    text = outcome_of(audit(specimen), NAMES[1]).text
    assert text.endswith(f"{specimen.market.dates[550]} with all fitted models kept: nothing is fitted on newer prices")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"action_mode": "discrete"},
        {"action_mode": "discrete", "action_table": "ladder", "execution_lag": 0, "impact": 0.5},
        {"reward": "differential_sharpe", "rebalance_days": 3, "cost_bps": (5.0, 0.0, 30.0), "impact": 0.1},
        {"reward": "drawdown_penalised", "max_weight": 0.4, "max_turnover": 0.3, "min_cash": 0.1},
        {"reward": "mean_variance", "cost_bps": 0.0},
    ],
)
def test_every_kind_of_environment_gets_its_certificate(tiny_path: Path, environment: dict[str, Any]) -> None:
    certificate = audit(on_tiny(tiny_path, environment=environment))
    assert certificate.counterexample is None
    assert certificate.passed


def test_costs_are_doubled_from_ten_basis_points_where_none_are_configured(tiny_path: Path) -> None:
    certificate = audit(on_tiny(tiny_path, environment={"cost_bps": 0.0}))
    assert outcome_of(certificate, "costs charged").text.startswith("wealth at 10 and 20 bp differs by the cost")


# ---------------------------------------------------------------- the future


def test_a_feature_that_looks_one_day_ahead_is_named_with_its_first_day_and_both_values(prices_path: Path) -> None:
    text = counterexample(on_prices(prices_path, "tests.market.custom_features:tomorrow"), NAMES[1])
    pattern = (
        r"feature tests\.market\.custom_features:tomorrow of AAA on (\S+) is (\S+), and (\S+) once the prices after "
        r"(\S+) are replaced\."
    )
    found = re.fullmatch(pattern, text)
    assert found is not None, text
    day, value, other, last_known = found.groups()
    assert day == last_known  # a day ahead: the last known day is the first that differs
    prices = read_table(on_prices(prices_path).market_config).prices
    row = prices.index.get_loc(day)
    assert float(value) == prices["AAA"].iloc[row + 1] / prices["AAA"].iloc[row] - 1.0
    assert float(other) != float(value)


def test_a_feature_that_uses_the_mean_of_all_days_differs_from_the_first_day_on(prices_path: Path) -> None:
    text = counterexample(on_prices(prices_path, "tests.market.custom_features:demeaned"), NAMES[1])
    assert text.startswith("feature tests.market.custom_features:demeaned of AAA on 2010-01-04 is ")


def test_what_could_not_be_checked_is_said_to_be_not_run(prices_path: Path) -> None:
    certificate = audit(on_prices(prices_path, "tests.market.custom_features:tomorrow"))
    others = [check for check in certificate.checks if check.status == "not run"]
    assert [check.name for check in others] == [NAMES[0], NAMES[2], NAMES[3]]
    assert {check.text for check in others} == {"no look-ahead bias failed"}


def test_a_policy_that_reads_tomorrow_is_found_on_the_day_that_it_does(tiny_path: Path) -> None:
    text = counterexample(on_tiny(tiny_path, policy=Prophet()), NAMES[1])
    found = re.fullmatch(
        r"the target weight of \S+ by prophet on (\S+) is [01], and [01] once the prices after (\S+) .*", text
    )
    assert found is not None, text
    assert found[1] == found[2]


def day_of(found: re.Match[str], market: MarketData, group: int) -> int:
    return int(np.searchsorted(market.dates, np.datetime64(found[group])))


@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_a_viewer_that_ignores_the_lag_is_found_at_the_trade_after_the_last_known_day(
    tiny_path: Path, tiny_market: MarketData, monkeypatch: pytest.MonkeyPatch, rebalance_days: int
) -> None:
    module = import_module("rllib_portfolio.backtest.engine")
    monkeypatch.setattr(module, "MarketViewer", lambda market, lag: MarketViewer(market, 0))
    environment = {"rebalance_days": rebalance_days}
    text = counterexample(on_tiny(tiny_path, environment=environment, policy=Reversal()), NAMES[1])
    pattern = (
        r"the target weight of \S+ by reversal on (\S+) is \S+, and \S+ once the prices after (\S+) are replaced, "
        r"at an execution lag of 1\."
    )
    found = re.fullmatch(pattern, text)
    assert found is not None, text
    assert day_of(found, tiny_market, 1) == day_of(found, tiny_market, 2) + 1


def test_drifted_weights_that_tell_of_the_day_of_the_trade_are_found(
    tiny_path: Path, tiny_market: MarketData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "known_weights", lambda drifted, held, execution_lag: drifted)
    text = counterexample(on_tiny(tiny_path), NAMES[1])
    pattern = r"observation weight\.A on (\S+) is \S+, and \S+ once the prices after (\S+) .* execution lag of 1\."
    found = re.fullmatch(pattern, text)
    assert found is not None, text
    assert day_of(found, tiny_market, 1) == day_of(found, tiny_market, 2) + 1


def test_a_strategy_that_reads_drifted_weights_is_found(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("rllib_portfolio.backtest.engine")
    assert audit(on_tiny(tiny_path, policy=DriftReader())).passed
    drifting = SimpleNamespace(**vars(kernel))
    drifting.known_weights = lambda drifted, held, execution_lag: drifted
    monkeypatch.setattr(module, "kernel", drifting)  # the back-test's alone: the environment stays sound
    text = counterexample(on_tiny(tiny_path, policy=DriftReader()), NAMES[1])
    assert text.startswith("the target weight of A by drift reader on ")


@pytest.mark.parametrize("form", ["with all fitted models kept", "everything is fitted again"])
def test_a_leak_into_prepared_features_is_found_in_both_forms(
    prices_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def leaking(*arguments: Any) -> MarketData:
        market = prepare_market(*arguments)
        is_frozen = len(arguments) == 3
        return with_tomorrow(market) if is_frozen == (form == "with all fitted models kept") else market

    specimen = on_prices(prices_path)
    if form == "everything is fitted again":
        specimen.__dict__["market"] = with_tomorrow(specimen.market)
    monkeypatch.setattr(causality, "prepare_market", leaking)
    with pytest.raises(Counterexample, match=rf"^feature \S+ of AAA on (\S+) is \S+, and \S+ once .* after \1.*{form}"):
        causality.require_causal(specimen)


def test_a_fit_that_uses_later_days_is_named(prices_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*arguments: Any) -> MarketData:
        market = prepare_market(*arguments)
        return replace(market, fitted={**market.fitted, "noted": {"mean": [market.returns.mean()]}})

    specimen = on_prices(prices_path)
    specimen.__dict__["market"] = careless(specimen.table, specimen.market_config)
    monkeypatch.setattr(causality, "prepare_market", lambda *a: careless(*a) if len(a) == 2 else prepare_market(*a))
    with pytest.raises(Counterexample, match=r"^fitted\.noted\.mean\[0\] is \S+, and \S+ once .* fitted again"):
        causality.require_causal(specimen)


def test_a_changed_entry_is_found_however_deep() -> None:
    one = {"a": 1, "b": {"c": [1.0, 2.0, float("nan")]}}
    assert changed_entry(one, {"a": 1, "b": {"c": [1.0, 2.0, float("nan")]}}) is None
    assert changed_entry(one, {"a": 1, "b": {"c": [1.0, 2.5, float("nan")]}}) == "fitted.b.c[1] is 2.0, and 2.5"
    assert changed_entry(one, {"a": 1}) == "fitted.b is {'c': [1.0, 2.0, nan]}, and None"


# ---------------------------------------------------------------- repeatability


def test_a_feature_that_rolls_dice_is_not_taken_for_a_leak(prices_path: Path) -> None:
    text = counterexample(on_prices(prices_path, "tests.audit.user_code:jittery"), NAMES[0])
    assert re.fullmatch(
        r"feature tests\.audit\.user_code:jittery of AAA on 2010-01-05 is (\S+), and (?!\1)\S+ when it is computed "
        r"again from the same prices\.",
        text,
    )


def test_a_reward_that_rolls_dice_is_found_at_its_first_step(tiny_path: Path) -> None:
    specimen = on_tiny(tiny_path, environment={"reward": "tests.audit.user_code:random_reward"})
    text = outcome_of(audit(specimen), NAMES[0]).text
    assert re.fullmatch(r"reward is (\S+), and (?!\1)\S+ at step 1 \(\S+\), by the same environment .* twice\.", text)


def test_a_policy_that_rolls_dice_is_found_at_its_first_decision(tiny_path: Path, tiny_market: MarketData) -> None:
    text = outcome_of(audit(on_tiny(tiny_path, policy=Gambler())), NAMES[0]).text
    pattern = r"the weight of A by gambler on (\S+) is \S+, and \S+ when the same window is back-tested again\."
    found = re.fullmatch(pattern, text)
    assert found is not None, text
    assert found[1] == str(tiny_market.dates[49])  # the test window earns from row 50 on


@pytest.mark.slow
def test_a_kept_market_that_is_not_what_its_prices_give_is_found(prices_path: Path) -> None:
    honest = on_prices(prices_path)
    features = honest.market.asset_features.copy()
    features[300, 0, 0] += 1.0
    kept = replace(honest.market, asset_features=features)
    specimen = on_prices(prices_path, fitted=honest.market.fitted, trained_on=kept)
    text = outcome_of(audit(specimen), NAMES[0]).text
    assert text.startswith(f"feature log_return_1 of AAA on {kept.dates[300]} is {features[300, 0, 0]:.9g}, and ")
    assert text.endswith(" in the run's own market and when it is prepared again from its prices.")


@pytest.mark.slow
def test_a_kept_market_with_another_feature_is_found(prices_path: Path) -> None:
    honest = on_prices(prices_path)
    specimen = on_prices(prices_path, fitted=honest.market.fitted, trained_on=leaked(honest.market))
    text = outcome_of(audit(specimen), NAMES[0]).text
    assert text.startswith("the names of asset_features on 2010-01-04 is ")


def test_other_prices_than_those_of_the_run_are_refused(prices_path: Path, tiny_market: MarketData) -> None:
    with pytest.raises(DataError, match=r"^prices must be those of the run, got other ones"):
        audit(on_prices(prices_path, trained_on=replace(tiny_market, data_hash="0" * 64)))


# ---------------------------------------------------------------- costs


def test_a_reward_that_gives_the_cost_back_is_found(tiny_path: Path) -> None:
    specimen = on_tiny(tiny_path, environment={"reward": "tests.audit.user_code:gross"})
    text = counterexample(specimen, NAMES[3])
    assert re.fullmatch(
        r"the reward tests\.audit\.user_code:gross is (\S+) at a cost of \S+ and \S+ at \S+ after the decision at "
        r"2001-01-05, which traded \S+ of wealth: costs are not deducted from it\.",
        text,
    )


def test_a_scale_that_is_too_small_for_the_corners_is_found(tiny_path: Path) -> None:
    text = counterexample(on_tiny(tiny_path, environment={"logit_scale": 1.0}), NAMES[2])
    assert text.startswith("the action that asks for A alone holds 0.711235 of it instead of 1, so ")


# ---------------------------------------------------------------- the certificate


def test_a_certificate_is_written_as_json(tmp_path: Path) -> None:
    certificate = Certificate((Check("a", "PASS", "b"), Check("c", "FAIL", "d")), {"data": "e"}, ("f",))
    certificate.write(tmp_path / "new" / "audit.json")
    assert json.loads((tmp_path / "new" / "audit.json").read_text()) == {
        "passed": False,
        "counterexample": "d",
        "checks": [{"name": "a", "status": "PASS", "text": "b"}, {"name": "c", "status": "FAIL", "text": "d"}],
        "facts": {"data": "e"},
        "notes": ["f"],
    }


def test_a_certificate_with_a_check_that_was_not_run_has_not_passed() -> None:
    assert not Certificate((Check("a", "PASS", ""), Check("b", "not run", "")), {}).passed


def test_a_certificate_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^--output must be writable, got "):
        Certificate((), {}).write(tmp_path / "file" / "audit.json")


def test_the_environment_of_an_algorithm_is_audited_as_it_is(tiny_path: Path) -> None:
    market = MarketConfig(data=str(tiny_path))
    assert audit(Specimen(market, ContinuousEnvironmentConfig(episode_days=20))).passed


def test_a_table_with_a_rate_of_cash_is_scrambled_to_one_that_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    random_prices(300).assign(rate=np.linspace(0.0, 0.05, 300)).to_csv(path)
    features = NONE.model_copy(update={"user_columns": True})
    specimen = Specimen(MarketConfig(data=str(path), features=features, cash_rate="rate"), EnvironmentConfig())
    assert "with everything fitted again" in causality.require_causal(specimen)
