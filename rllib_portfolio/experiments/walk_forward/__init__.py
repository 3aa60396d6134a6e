"""Walk-forward analysis: train on each window of the past, judge on what came after it, pool the days.

`plan_walk_forward` cuts the folds, `train_runs` trains them over a Ray cluster, `pool_runs` walks the policies.
"""

from rllib_portfolio.walk_forward.folds import FoldLengths, plan_folds
from rllib_portfolio.walk_forward.plan import Run, WalkForwardPlan, plan_walk_forward
from rllib_portfolio.walk_forward.pooling import FoldPolicy, PooledPolicy
from rllib_portfolio.walk_forward.record import start_analysis
from rllib_portfolio.walk_forward.results import PooledResult, pool_runs
from rllib_portfolio.walk_forward.runs import Progress, RunOutcome, train_runs

__all__ = [
    "FoldLengths",
    "FoldPolicy",
    "PooledPolicy",
    "PooledResult",
    "Progress",
    "Run",
    "RunOutcome",
    "WalkForwardPlan",
    "plan_folds",
    "plan_walk_forward",
    "pool_runs",
    "start_analysis",
    "train_runs",
]
