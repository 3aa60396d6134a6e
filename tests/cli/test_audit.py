"""`backtest.py audit`: the certificate on the screen and in a file, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from rllib_portfolio import cli
from tests.tiny_runs import TinyRun, tiny_config


@pytest.fixture
def config_path(tmp_path: Path, price_settings: dict[str, Any]) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_config(price_settings).model_dump(mode="json")))
    return path


def audited(*arguments: object) -> int:
    return cli.backtest(["audit", *map(str, arguments)])


@pytest.mark.slow
def test_a_sound_configuration_gets_a_certificate(
    capsys: pytest.CaptureFixture[str], config_path: Path, tmp_path: Path
) -> None:
    output = tmp_path / "certificates" / "tiny.json"
    assert audited("--config", config_path, "--output", output) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == "Checking: determinism ..."
    for text in ("no look-ahead bias", "costs charged", "data hash", "none, the baselines alone", "It cannot prove"):
        assert text in printed.out, text
    assert printed.out.count("PASS") == 5
    assert "Warning: " not in printed.out
    assert "PASS: no look-ahead bias was found in what is listed above." in printed.out
    written = json.loads(output.read_text())
    assert written["passed"] is True
    assert [check["status"] for check in written["checks"]] == 4 * ["PASS"]
    assert audited("--config", config_path, "--output", output, "--quiet") == 0  # an earlier one is renewed
    assert capsys.readouterr().err == ""


def test_a_feature_that_reads_tomorrow_gives_the_counterexample(
    capsys: pytest.CaptureFixture[str], config_path: Path, tmp_path: Path
) -> None:
    feature = "tests.market.custom_features:tomorrow"
    setting = f'market.features.custom=["{feature}"]'
    assert audited("--config", config_path, "--set", setting, "--output", tmp_path / "audit.json", "--quiet") == 1
    last = capsys.readouterr().out.splitlines()[-2]
    assert last.startswith(f"FAIL: feature {feature} of AAA on 20")
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["passed"] is False
    assert last == f"FAIL: {written['counterexample']}"


@pytest.mark.slow
def test_a_reward_without_cost_gives_the_counterexample(capsys: pytest.CaptureFixture[str], config_path: Path) -> None:
    assert audited("--config", config_path, "--set", "environment.reward=tests.audit.user_code:gross", "--quiet") == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("FAIL: the reward tests.audit.user_code:gross is ")
    assert last.endswith("costs are not deducted from it.")


@pytest.mark.ray
def test_a_run_is_audited_with_its_policy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished_run: TinyRun
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished_run.run_dir, run_dir)
    assert audited(run_dir, "--quiet") == 0
    assert "PPO policy, best on validation" in capsys.readouterr().out
    written = json.loads((run_dir / "audit.json").read_text())
    scramble = next(check for check in written["checks"] if check["name"] == "no look-ahead bias")
    assert "observations and decisions of PPO policy and 13 baselines" in scramble["text"]
    assert written["facts"]["data hash"] == finished_run.market.data_hash
    determinism = next(check for check in written["checks"] if check["name"] == "determinism")
    assert "the run's market.npz the same" in determinism["text"]


# ---------------------------------------------------------------- what can be mended: one line, exit code 2


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert audited("--quiet", *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refusal(capsys, tmp_path / "none").startswith("error: RUN_DIR must be a folder that train.py wrote, got ")


def test_a_run_beside_a_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path, config_path: Path) -> None:
    line = refusal(capsys, tmp_path, "--config", config_path)
    assert line == "error: RUN_DIR must come without --config, got both. The run has its own settings."


def test_an_unknown_setting(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "--set", "environment.cost=3")
    assert line.startswith("error: environment.cost is not a known setting (")


def test_prices_that_are_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert f"{tmp_path}/none.csv" in refusal(capsys, "--data-path", tmp_path / "none.csv")


def test_a_file_that_is_no_certificate_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.json").write_text('{"all": "of it"}')
    line = refusal(capsys, "--output", tmp_path / "thesis.json")
    assert line.startswith("error: --output must be new or an earlier certificate, got ")
    assert (tmp_path / "thesis.json").read_text() == '{"all": "of it"}'
