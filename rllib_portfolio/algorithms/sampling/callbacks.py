"""Metrics that env runners report in addition to RLlib's.

RLlib's `episode_return_mean` is missing until an episode ends, and NaN in an iteration in which none ends. From the
list of all finished episodes' returns the training loop computes a mean over its own window, which is always finite.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments

FINISHED_RETURNS = "finished_episode_returns"


@reads_fragments(infos=False, observations=False)
class ReportFinishedEpisodes(RLlibCallback):
    """Logs the return of each finished episode, without reward normalisation."""

    def on_episode_end(
        self, *, episode: Any, prev_episode_chunks: list[Any] | None = None, metrics_logger: Any = None, **kwargs: Any
    ) -> None:
        total = episode.get_return() + sum(chunk.get_return() for chunk in prev_episode_chunks or ())
        metrics_logger.log_value(FINISHED_RETURNS, float(total), reduce="item_series")
