"""Train PPO on a CSV file of your own, and back-test it: the steps of docs/tutorial.md as one script.

    python examples/train_on_own_data.py [FOLDER]

Writes prices.csv, the run and its report into FOLDER (default: runs/example).
"""

import subprocess
import sys
from pathlib import Path

from skfolio.datasets import load_sp500_dataset, load_sp500_index

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example")
folder.mkdir(parents=True, exist_ok=True)

prices = load_sp500_dataset().loc["2005":, ["AAPL", "GE", "JPM", "KO", "PG", "XOM"]]
prices["index"] = load_sp500_index().loc["2005":].iloc[:, 0]
prices.rename_axis("date").to_csv(folder / "prices.csv")


def run(*arguments: str) -> None:
    """Run a command of the project, and stop if it fails."""
    print("$ python", *arguments, flush=True)
    subprocess.run([sys.executable, *arguments], check=True)


run("-m", "rllib_portfolio.market", "validate", str(folder / "prices.csv"))
run(
    *("train.py", "--algo", "ppo", "--data-path", str(folder / "prices.csv")),
    *("--total-timesteps", "8192", "--output-dir", str(folder / "run"), "--quiet"),
)
run("backtest.py", str(folder / "run"), "--quiet")
print(f"Open {folder / 'run' / 'report' / 'report.html'} in a browser.")
