"""Functions that saved files name: a stranger's are not imported, those that the user consents to are."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rllib_portfolio import cli, load_policy
from rllib_portfolio.atomic import sealed
from rllib_portfolio.config import consent
from rllib_portfolio.config.consent import named_functions, restricted_to
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
from rllib_portfolio.experiments.walk_forward.plan import plan_walk_forward
from rllib_portfolio.experiments.walk_forward.record import RECORD as ANALYSIS
from rllib_portfolio.experiments.walk_forward.record import start_analysis
from rllib_portfolio.market import MarketData, load_market
from rllib_portfolio.policies.checkpoint import checkpoint_name, write_checkpoint
from rllib_portfolio.runs import resumable
from rllib_portfolio.runs.folder import CONFIG, MARKET, RECORD, open_run_folder
from tests.experiments.search.searches import start_search
from tests.market.tables import SHORT, random_prices
from tests.policies.tiny_policies import policy_for
from tests.tiny_runs import COIN, start_run, tiny_config, tiny_dqn_config

SHELL = "subprocess:run"
PAYLOAD = "stranger.payload:function"
ARRAY = "tests.market.custom_features:array"
"""A function that is no valid feature: code that imports and calls it reports that it `must return a DataFrame`."""
FLAT = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


@pytest.fixture(autouse=True)
def _nothing_trusted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "_current", consent._Consent())


@dataclass(frozen=True)
class _Call:
    """Is a call once it is unpickled."""

    function: Callable[[str], None]
    argument: str

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return self.function, (self.argument,)


@dataclass(frozen=True)
class Stranger:
    """Folders with the payload of a stranger, which leaves `mark` where it is imported or run."""

    folder: Path
    mark: Path

    @property
    def prices(self) -> Path:
        """A table whose tickers are the words of a shell command: `subprocess.run` reads the labels of a DataFrame."""
        path = self.folder / "prices.csv"
        words = ["sh", "-c", f"touch {self.mark}"]
        random_prices(600).set_axis(words, axis=1).to_csv(path)
        return path

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of its market and its run before anything is forged."""
        return {"market.data": str(self.prices), "market.features": SHORT.model_dump()}

    def run(self, name: str) -> Path:
        """A run folder whose config.yaml, policy.json and market.npz name a function, as feature and as reward."""
        run = start_run(self.folder / "run", tiny_config(self.settings))
        values = named(run.config.model_dump(mode="json"), name)
        (run.run_dir / CONFIG).write_text(yaml.safe_dump(values))
        change_json(run.run_dir / RECORD, lambda record: {**record, "config": values})
        features = {**run.market.fitted["features"], "custom": [name]}
        market = replace(run.market, fitted={**run.market.fitted, "features": features})
        market.save(run.run_dir / MARKET)
        forged = {key: values[key] for key in ("market", "environment", "network")}
        state = {name: None for name in ("best_score", "best_sharpe", "validation_sharpe")}
        best = {"steps": 64, "elapsed_s": 1.0, "best_checkpoint": checkpoint_name(64)}
        progress = {**state, **best, "evaluations_without_improvement": 0, "recent_returns": []}
        policy = policy_for(market, **forged)

        def write(folder: Path) -> None:
            policy.save(folder / "policy")
            (folder / "rllib").mkdir()
            (folder / "rllib" / "algorithm_state.pkl").write_bytes(self.pickle)

        write_checkpoint(run.run_dir, 64, write, progress)
        return run.run_dir

    @property
    def pickle(self) -> bytes:
        """A pickle that makes the mark when it is loaded."""
        return pickle.dumps(_Call(os.mkdir, str(self.mark)))

    def search(self, name: str, space: dict[str, Any] | None = None) -> Path:
        """A search whose record names a function as the reward, or in its search space."""
        output = self.folder / "search"
        assert start_search(output, {"num_samples": 1}, FLAT, COIN).study.get_trials() == []  # its database is there
        change_json(output / "ppo_search.json", lambda values: values if space else named_reward(values, name))
        change_json(output / "ppo_search.json", lambda values: {**values, "search": space or values["search"]})
        return output

    def analysis(self, name: str, change: Callable[[dict[str, Any], str], dict[str, Any]], algo: str = "ppo") -> Path:
        """An analysis whose record names a function in the settings of one algorithm."""
        output, configs = self.folder / "analysis", [tiny_config(self.settings), tiny_dqn_config(self.settings)]
        start_analysis(plan_walk_forward(configs, 1, FoldLengths(num_folds=2)), output)

        def forged(record: dict[str, Any]) -> dict[str, Any]:
            record["plan"]["algorithms"][algo] = change(record["plan"]["algorithms"][algo], name)
            return record

        change_json(output / ANALYSIS, forged)
        return output


def change_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """A digest is no signature: who changes a record can write the digest of what he made of it."""
    path.write_text(json.dumps(sealed(change(json.loads(path.read_text())))))


def named_feature(values: dict[str, Any], name: str) -> dict[str, Any]:
    values["market"]["features"]["custom"] = [name]
    return values


def named_reward(values: dict[str, Any], name: str) -> dict[str, Any]:
    values.get("config", values)["environment"]["reward"] = name
    return values


def named(values: dict[str, Any], name: str) -> dict[str, Any]:
    return named_feature(named_reward(values, name), name)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """Return a stranger whose folder is on Python's search path, as `runs` is at the top of the repository."""
    folder, mark = tmp_path / "stranger", tmp_path / "mark"
    folder.mkdir()
    (folder / "payload.py").write_text(
        f"import os\n\nos.mkdir({str(mark)!r})\n\n\ndef function(values):\n    return values\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger.payload", raising=False)
    return Stranger(folder, mark)


Reader = Callable[[Stranger, str], tuple[Callable[[list[str]], int], list[str], Path]]
"""The command, its arguments and the file that names the function."""


def choices(name: str) -> dict[str, Any]:
    return {"environment.reward": {"choices": ["log_return", name]}}


READERS: dict[str, Reader] = {
    "backtest on newer data": lambda stranger, name: (
        cli.backtest, [str(run := stranger.run(name)), "--data-path", str(stranger.prices)], run / CONFIG
    ),
    "audit": lambda stranger, name: (cli.backtest, ["audit", str(run := stranger.run(name))], run / CONFIG),
    "audit on newer data": lambda stranger, name: (
        cli.backtest, ["audit", str(run := stranger.run(name)), "--data-path", str(stranger.prices)], run / CONFIG
    ),
    "train": lambda stranger, name: (cli.train, ["--resume", str(run := stranger.run(name))], run / CONFIG),
    "tune": lambda stranger, name: (
        cli.tune, ["--resume", str(output := stranger.search(name))], output / "ppo_search.json"
    ),
    "tune, of a search space": lambda stranger, name: (
        cli.tune, ["--resume", str(output := stranger.search(name, choices(name)))], output / "ppo_search.json"
    ),
    "walk-forward, a feature": lambda stranger, name: (
        cli.backtest,
        ["walk-forward", "--resume", str(output := stranger.analysis(name, named_feature))],
        output / ANALYSIS,
    ),
    "walk-forward, a reward": lambda stranger, name: (
        cli.backtest,
        ["walk-forward", "--resume", str(output := stranger.analysis(name, named_reward, "dqn"))],
        output / ANALYSIS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [SHELL, PAYLOAD])
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.replace(", ", "-").replace(" ", "-"))
def test_no_command_imports_what_a_stranger_s_files_name(
    stranger: Stranger, capsys: pytest.CaptureFixture[str], reader: str, name: str
) -> None:
    command, words, file = READERS[reader](stranger, name)
    before = {path: path.read_bytes() for path in stranger.folder.rglob("*") if path.is_file()}
    assert command([*words, "--quiet"]) == 2
    assert not stranger.mark.exists()
    assert "stranger.payload" not in sys.modules
    assert {path: path.read_bytes() for path in stranger.folder.rglob("*") if path.is_file()} == before
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(
        f"error: a function that saved settings name must be one that you trust, got {name} ({file}). "
        f"Read its code, then give --trust-custom {name}, "
    )


def test_an_analysis_in_whose_folder_a_command_goes_on_may_not_bring_a_reward_along(
    stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    output, own = stranger.analysis(PAYLOAD, named_reward, "dqn"), stranger.folder / "own.yaml"
    own.write_text(yaml.safe_dump(tiny_config(stranger.settings).model_dump(mode="json")))
    words = ["--config", str(own), "--folds", "2", "--seeds", "1", "--output-dir", str(output), "--quiet"]
    assert cli.backtest(["walk-forward", *words]) == 2
    assert f"got {PAYLOAD} ({output / ANALYSIS})" in capsys.readouterr().err
    assert not stranger.mark.exists()


def test_a_policy_that_names_functions_is_not_loaded_without_consent(stranger: Stranger) -> None:
    run = stranger.run(PAYLOAD)
    file = run / "checkpoints" / checkpoint_name(64) / "policy" / "policy.json"
    with pytest.raises(ConfigError, match=rf"got {PAYLOAD} \({file}\)\. .* load_policy\(\.\.\., trust_custom=\["):
        load_policy(run)
    with pytest.raises(ConfigError, match=f"got {PAYLOAD} "):
        load_market(str(stranger.prices), fitted=MarketData.load(run / MARKET).fitted)
    assert not stranger.mark.exists()
    policy = load_policy(run, trust_custom=["stranger.payload"])
    assert not stranger.mark.exists()  # consent imports nothing by itself
    fitted = MarketData.load(run / MARKET).fitted
    with pytest.raises(DataError, match="asset features must be those of the fitted run"):
        load_market(str(stranger.prices), fitted=fitted)
    assert stranger.mark.exists()
    assert policy.spec.environment_config.reward == PAYLOAD


def test_another_process_of_a_command_refuses_what_the_command_does(stranger: Stranger) -> None:
    # what the tasks of tune.py and of a walk-forward do with a run folder that they find
    config, market = open_run_folder(run := stranger.run(PAYLOAD), {})
    with restricted_to({"somebody:else"}), pytest.raises(ConfigError, match=f"got {PAYLOAD} .{run / CONFIG}"):
        resumable.train_in_folder(run, config, market)
    assert not stranger.mark.exists()


# ---------------------------------------------------------------- consent


@pytest.mark.parametrize("trusted", [ARRAY, ARRAY.partition(":")[0]])
def test_a_command_imports_what_its_user_trusts(
    stranger: Stranger, capsys: pytest.CaptureFixture[str], trusted: str
) -> None:
    run = str(stranger.run(ARRAY))
    for words in ([run, "--data-path", str(stranger.prices)], ["audit", run]):
        assert cli.backtest([*words, "--quiet", "--trust-custom", "another", "--trust-custom", trusted]) == 2
        assert f"error: {ARRAY} must return a DataFrame or a Series, got " in capsys.readouterr().err
    assert (
        cli.backtest(["audit", run, "--quiet", "--trust-custom", "tests.market"]) == 2
    )  # a package is no module of it
    assert "--trust-custom" in capsys.readouterr().err


def test_what_a_command_line_or_its_own_file_names_needs_no_other_word(
    stranger: Stranger, capsys: pytest.CaptureFixture[str]
) -> None:
    run, own = stranger.run(ARRAY), stranger.folder / "own.yaml"
    own.write_text((run / CONFIG).read_text())
    for words in ([str(run), "--set", f"market.features.custom=[{ARRAY}]"], ["--config", str(own)]):
        assert cli.backtest(["audit", *words, "--quiet"]) == 2
        assert f"error: {ARRAY} must return a DataFrame or a Series, got " in capsys.readouterr().err


@pytest.mark.parametrize("reader", ["train", "tune", "tune, of a search space", "walk-forward, a reward"])
def test_a_run_a_search_and_an_analysis_go_on_with_a_reward_that_is_trusted(
    stranger: Stranger, capsys: pytest.CaptureFixture[str], reader: str
) -> None:
    command, words, _ = READERS[reader](stranger, ARRAY)
    # an address that is none ends the command where it would start Ray
    assert command([*words, "--quiet", "--trust-custom", ARRAY, "--address", "no-port"]) == 2
    assert capsys.readouterr().err.startswith("error: --address must lead to a running Ray cluster")


@pytest.mark.parametrize("text", ["", "a b", "a:", ":f", "a.:f", "a:b.c", "runs/a:f"])
def test_consent_to_what_is_no_name_shows_the_usage(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        cli.train(["--trust-custom", text])
    assert f"argument --trust-custom: must be module:function or module, got {text!r}" in capsys.readouterr().err


def test_python_code_consents_to_what_it_names(stranger: Stranger) -> None:
    features = SHORT.model_dump() | {"custom": [ARRAY]}
    with pytest.raises(DataError, match="must return a DataFrame"):
        load_market({"data": str(stranger.prices), "features": features})


def test_functions_are_found_however_settings_are_nested() -> None:
    settings = {
        "market": {"data": "no:name", "assets": ["NYSE:IBM"], "features": {"custom": ["a:f", "b.c:g"]}},
        "environment.reward": {"choices": ["log_return", "d:h"]},
        "plan": [{"environment": {"reward": "e:i"}}, {"market.features": {"custom": ("j:k",)}}],
        "environment": {"reward": "log_return"},
        "other": {
            "reward": ["a:f; rm -r x", "a:f\x1b[2J", "a:", ":f", "a:f:g", "a.:f"]
        },  # refused wherever they are used
    }
    assert set(named_functions(settings)) == {"a:f", "b.c:g", "d:h", "e:i", "j:k"}
    deep: Any = "x:y"
    for _ in range(100_000):
        deep = [deep]
    assert list(named_functions({"reward": deep})) == ["x:y"]


# ---------------------------------------------------------------- pickles

WARNING = "was not begun by this user on this machine. Resuming unpickles its checkpoints, which can execute any code"


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("kind", ["run", "search", "analysis"])
def test_resuming_what_another_began_warns_of_its_pickles(
    stranger: Stranger, capsys: pytest.CaptureFixture[str], kind: str, is_ours: bool
) -> None:
    folder, command, record = {
        "run": (lambda: stranger.run("log_return"), cli.train, RECORD),
        "search": (lambda: stranger.search("log_return"), cli.tune, "ppo_search.json"),
        "analysis": (lambda: stranger.analysis("log_return", named_reward), cli.backtest, ANALYSIS),
    }[kind]
    place = folder()
    if not is_ours:
        change_json(place / record, lambda values: {**values, "origin": "0123456789abcdef"})
    words = ["walk-forward"] if kind == "analysis" else []
    for _ in range(2):  # who resumes it does not become the one who began it
        assert command([*words, "--resume", str(place), "--quiet", "--address", "no-port"]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: --address must lead to a running Ray cluster, got 'no-port'")
        assert (f"Warning: {place} {WARNING}" in printed.out) is not is_ours


def test_exported_files_are_never_unpickled(stranger: Stranger) -> None:
    run = stranger.run("log_return")
    weights = run / "checkpoints" / checkpoint_name(64) / "policy" / "weights.safetensors"
    weights.write_bytes(stranger.pickle)
    with pytest.raises(ConfigError, match="got damaged files"):
        load_policy(weights.parent)
    np.savez(run / MARKET, values=np.array([_Call(os.mkdir, str(stranger.mark))]))
    with pytest.raises(DataError, match=r"market must be a prepared \.npz file"):
        MarketData.load(run / MARKET)
    assert not stranger.mark.exists()
    pickle.loads(stranger.pickle)
    assert stranger.mark.exists()


def test_a_search_goes_on_in_the_database_that_its_record_names(stranger: Stranger) -> None:
    search, database = stranger.search("log_return"), stranger.folder / "elsewhere.db"
    change_json(search / "ppo_search.json", lambda values: {**values, "storage": f"sqlite:///{database}"})
    assert cli.tune(["--resume", str(search), "--quiet", "--address", "no-port"]) == 2
    assert database.is_file()
