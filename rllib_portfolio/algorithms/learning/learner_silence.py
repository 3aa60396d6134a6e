"""A warning while a run waits for learners that do not answer.

RLlib waits for learners in processes of their own without end. One whose process ended fails at once; one that is
stopped, or hangs, would be waited for in silence.
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
"""An update that takes long is no silence: so many times the mean update is waited for."""


@contextmanager
def warned_of_silence(algorithm: Algorithm) -> Iterator[None]:
    """Warn once if an update, made in this context, waits for learners in processes of their own for a minute.

    They are waited for all the same.

    Args:
        algorithm: The owner of the learners, which records how long updates take.
    """
    if algorithm.learner_group.is_local:
        yield
        return
    usual_s = algorithm.metrics.peek((TIMERS, LEARNER_UPDATE_TIMER), default=0.0)
    seconds = max(SILENT_AFTER_S, TIMES_USUAL * usual_s)
    warning = (
        f"Warning: no answer from the learners for {seconds:.0f} s. Training waits for them. If their processes or "
        "machines do not go on, end the command (Ctrl-C twice) and continue the run with --resume."
    )
    timer = threading.Timer(seconds, logger.warning, (warning,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
