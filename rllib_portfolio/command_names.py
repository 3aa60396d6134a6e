"""Commands as messages name them: scripts of a checkout, or the installed `rllib-portfolio` where that was called."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "rllib-portfolio"
_SCRIPT = re.compile(
    r"python -m rllib_portfolio\.market\b|(?:\bpython )?\b(train|tune|backtest)\.py\b(?: (walk-forward|audit)\b)?"
)


def as_invoked(text: str) -> str:
    """Return a text of our own in which each command is written as it can be called again, from any folder.

    Args:
        text: Names scripts, as `train.py` or `python train.py --resume`. It must hold nothing from outside, such as a
            path, in which the same words would be replaced, too.
    """
    called = os.path.abspath(sys.argv[0])
    if Path(called).stem != PROGRAM:
        return text
    program = PROGRAM if shutil.which(PROGRAM) == called else shlex.quote(called)
    return _SCRIPT.sub(lambda found: f"{program} {found[2] or found[1] or 'data'}", text)
