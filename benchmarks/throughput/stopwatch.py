"""Where the time goes: functions of a running program wrapped in clocks."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple


class Watched(NamedTuple):
    """A function whose time belongs to a component."""

    component: str
    owner: Any
    """The class, module or object that the function is looked up on when it is called."""
    name: str


class Stopwatch:
    """Seconds per component. Time in a watched function that another one called counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner_s = [0.0]

    def attach(self, watched: Iterable[Watched]) -> None:
        """Replace the functions by timed ones, for the rest of the process.

        Raises:
            AttributeError: If a function is not there: the code has changed, and this list must follow.
        """
        for component, owner, name in watched:
            setattr(owner, name, self._timed(getattr(owner, name), component))

    def _timed(self, function: Any, component: str) -> Any:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner_s.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - started
                self.seconds[component] += elapsed - self._inner_s.pop()
                self._inner_s[-1] += elapsed

        return timed
