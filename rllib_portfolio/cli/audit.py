"""`backtest.py audit`: check an environment and a policy for look-ahead bias, and print a certificate."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_portfolio.atomic import read_json
from rllib_portfolio.cli.console import quieten_libraries, say, tell, warn_of_implausible
from rllib_portfolio.cli.flags import add_flags, require_path
from rllib_portfolio.cli.settings import chosen_config, require_run_folders
from rllib_portfolio.config.consent import named_functions, trust
from rllib_portfolio.config.files import parse_assignment
from rllib_portfolio.errors import ConfigError

if TYPE_CHECKING:
    from rllib_portfolio.audit import Certificate, Specimen

TABLE_WIDTH = 100

_DESCRIPTION = """\
Check an environment and a policy for look-ahead bias. Print a certificate, or the first counterexample.

  determinism            two runs with the same seed are bit-identical; scalar and vector environment agree
  no look-ahead bias     every price after a day t is replaced; features, regimes, observations, weights of baselines
                         and decisions of the policy up to t must stay bit-identical
  one-asset portfolios   for each asset and for cash, an action exists that holds nothing else
  costs charged          if the cost rate is doubled, wealth and reward fall by the cost of the trades

With RUN_DIR, the audit covers the environment of this run and its best policy. Otherwise it covers the environment of
the configuration and the baselines. The certificate is written to RUN_DIR/audit.json or to --output.
"""

_EPILOG = """\
examples:
  python backtest.py audit runs/ppo/20260131-120000
  python backtest.py audit --set market.features.custom='["my_features:breadth"]' --data-path prices.csv
  python backtest.py audit --config my.yaml --set environment.reward=my_rewards:reward --output certificate.json

exit code: 0 every check passed, 1 counterexample found or machine failure, 2 invalid input
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "%(prog)s [RUN_DIR | --config FILE | --algo NAME] [options]"
    parser.add_argument("run_dir", nargs="?", type=Path, metavar="RUN_DIR", help="folder that train.py wrote")
    add_flags(parser, "--config", "--algo", "--set")
    add_flags(
        parser,
        "--data-path",
        help="table of prices, or folder of tables; with RUN_DIR, a newer table of the same assets",
    )
    add_flags(parser, "--index-path", help="table of the index level, if --data-path has no such column")
    add_flags(parser, "--trust-custom")
    add_flags(parser, "--output", help="where to write (default: RUN_DIR/audit.json)")
    add_flags(parser, "--quiet", help="print only the certificate, without progress")


def execute(arguments: argparse.Namespace) -> int:
    """Run the audit, print and write the certificate, and return the exit code."""
    require_path(arguments, "output", "Copy the certificate there when it is written.")
    output = None if arguments.output is None else Path(arguments.output)
    if output is None and arguments.run_dir is not None:
        output = arguments.run_dir / "audit.json"
    if output is not None:
        _require_renewable(output)
    specimen, facts = _of_run(arguments) if arguments.run_dir is not None else _of_configuration(arguments)
    from rllib_portfolio.audit import audit

    certificate = audit(specimen, lambda name: say(arguments, f"Checking: {name} ..."))
    certificate = replace(certificate, facts={**facts, **certificate.facts})
    _print(certificate)
    if output is not None:
        certificate.write(output)
        tell(f"Written: {output}")
    if certificate.passed:
        _warn_of_implausible(specimen)
    return 0 if certificate.passed else 1


def _warn_of_implausible(specimen: Specimen) -> None:
    """Warn if the policy, 1/N or buy-and-hold has implausible results on the test window."""
    from rllib_portfolio.backtest.baselines import BuyAndHold, EqualWeight
    from rllib_portfolio.backtest.comparison import compare
    from rllib_portfolio.backtest.engine import backtest

    market = specimen.market
    window = market.windows.get("test", market.windows["all"])
    strategies = [*([] if specimen.policy is None else [specimen.policy]), EqualWeight(), BuyAndHold()]
    walks = backtest(market, window, strategies, specimen.environment)
    table = compare(walks, market.cash_returns[slice(*window)], market.periods_per_year)
    warn_of_implausible(table, market, window[1] - window[0])


def _of_configuration(arguments: argparse.Namespace) -> tuple[Specimen, dict[str, str]]:
    from rllib_portfolio.audit import Specimen

    config, path = chosen_config(arguments)
    facts = {"environment": f"{path}, as for {config.algo}", "policy": "none, the baselines alone"}
    return Specimen(config.market, config.environment, seed=config.seed), facts


def _of_run(arguments: argparse.Namespace) -> tuple[Specimen, dict[str, str]]:
    given = [f"--{name}" for name in ("config", "algo") if getattr(arguments, name) is not None]
    if given:
        raise ConfigError(f"RUN_DIR must come without {' and '.join(given)}, got both. The run has its own settings.")
    overrides = dict(parse_assignment(text) for text in arguments.set)
    trust(named_functions(overrides))
    require_run_folders([arguments.run_dir])
    quieten_libraries()
    from rllib_portfolio.audit import Specimen
    from rllib_portfolio.runs.subjects import newer_data, open_runs

    (run,) = open_runs([arguments.run_dir], overrides)
    run.policy.name = f"{run.config.algo.upper()} policy"
    newer = newer_data(run, arguments.data_path, arguments.index_path)
    specimen = Specimen(
        market_config=newer or run.config.market,
        environment=run.config.environment,
        policy=run.policy,
        fitted=run.policy.spec.fitted if "features" in run.policy.spec.fitted else None,
        trained_on=None if newer else run.market,
        is_newer_data=newer is not None,
        seed=run.config.seed,
    )
    run.policy.require_compatible(specimen.market)
    facts = {"environment": str(arguments.run_dir), "policy": f"{run.policy.name}, best on validation"}
    return specimen, facts


def _require_renewable(path: Path) -> None:
    """Raise if the file exists and is not an earlier certificate."""
    if not path.exists():
        return
    try:
        is_ours = {"checks", "facts"} <= read_json(path, "--output", "").keys()
    except ConfigError:
        is_ours = False
    if not is_ours:
        raise ConfigError(f"--output must be new or an earlier certificate, got {path}. Choose another.")


def _print(certificate: Certificate) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from rllib_portfolio.reporting.plain_console import PlainConsole

    console = PlainConsole()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    table = Table(title="Audit", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("check", "", "what was covered, or the counterexample"):
        table.add_column(heading, no_wrap=heading != "what was covered, or the counterexample", vertical="top")
    styles = {"PASS": "green", "FAIL": "bold red", "not run": "dim"}
    for check in certificate.checks:
        table.add_row(check.name, Text(check.status, styles[check.status]), check.text)
    console.print(table)
    for label, text in certificate.facts.items():
        console.print(f"  {label:<20} {text}", highlight=False, soft_wrap=True)
    for note in certificate.notes:
        console.print(f"Note: {note}", highlight=False, soft_wrap=True)
    if certificate.passed:
        console.print("PASS: no look-ahead bias was found in what is listed above.", highlight=False)
    else:
        text = f"FAIL: {certificate.counterexample}"
        console.print(text, highlight=False, soft_wrap=True)
