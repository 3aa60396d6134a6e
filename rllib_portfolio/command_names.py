"""Names of commands in messages: scripts of a checkout, or the installed `rllib-portfolio` if that was called."""

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
    """Return a text in which each command is written so that the user can call it again, from any folder.

    Args:
        text: A text of this package that names scripts, such as `train.py` or `python train.py --resume`. It must not
            contain input from outside, such as a path, since the same words would be replaced there, too.
    """
    called = os.path.abspath(sys.argv[0])
    if Path(called).stem != PROGRAM:
        return text
    program = PROGRAM if shutil.which(PROGRAM) == called else shlex.quote(called)
    return _SCRIPT.sub(lambda found: f"{program} {found[2] or found[1] or 'data'}", text)
