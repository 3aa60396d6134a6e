"""One training run: its loop, its validation, and the folder that it can be continued in."""

from rllib_portfolio.training.folder import TrainingOutcome, finished_training, train_in_folder
from rllib_portfolio.training.loop import ALGORITHMS, Status, resume_point, run, start_notes
from rllib_portfolio.training.validation import best_policy, best_validation_returns, walk

__all__ = [
    "ALGORITHMS",
    "Status",
    "TrainingOutcome",
    "best_policy",
    "best_validation_returns",
    "finished_training",
    "resume_point",
    "run",
    "start_notes",
    "train_in_folder",
    "walk",
]
