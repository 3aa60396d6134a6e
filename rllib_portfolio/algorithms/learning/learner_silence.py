"""A warning while a run waits for learners that do not answer.

RLlib waits for remote learners without a time limit. If a learner's process has ended, the call fails at once. If the
process is stopped or hangs, RLlib would wait without a message.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.metrics import LEARNER_UPDATE_TIMER, TIMERS

logger = logging.getLogger(__name__)

SILENT_AFTER_S = 60.0
TIMES_USUAL = 5.0
"""The warning waits for at least this multiple of the mean duration of an update, since some updates are slow."""


@contextmanager
def warned_of_silence(algorithm: Algorithm) -> Iterator[None]:
    """Log a warning if an update within this context waits too long for remote learners.

    The limit is `SILENT_AFTER_S` or `TIMES_USUAL` mean updates, whichever is longer. The update continues to wait.

    Args:
        algorithm: The owner of the learners, whose metrics hold the duration of updates.
    """
    if algorithm.learner_group.is_local:
        yield
        return
    usual_s = algorithm.metrics.peek((TIMERS, LEARNER_UPDATE_TIMER), default=0.0)
    seconds = max(SILENT_AFTER_S, TIMES_USUAL * usual_s)
    warning = (
        f"Warning: no answer from the learners for {seconds:.0f} s. Training waits for them. If they do "
        "not respond, stop the command (Ctrl-C twice) and continue the run with --resume."
    )
    timer = threading.Timer(seconds, logger.warning, (warning,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
