"""What an audit says: checks that passed with what they covered, or the first counterexample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rllib_portfolio.atomic import write_json
from rllib_portfolio.errors import file_error, reason
from rllib_portfolio.new_folder import made

Status = Literal["PASS", "FAIL", "not run"]


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: What was asked.
        status: PASS, FAIL, or not run because an earlier one failed.
        text: What was covered, the counterexample, or why it was not run.
    """

    name: str
    status: Status
    text: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """All checks of one audit, and what they are about.

    Attributes:
        checks: In the order in which they were made.
        facts: Data, dates, hash, settings and versions: label to text.
        notes: What the certificate cannot say.
    """

    checks: tuple[Check, ...]
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.status == "PASS" for check in self.checks)

    @property
    def counterexample(self) -> str | None:
        """The first counterexample."""
        return next((check.text for check in self.checks if check.status == "FAIL"), None)

    def write(self, path: Path) -> None:
        """Write everything as JSON.

        Raises:
            ConfigError: If the file cannot be written.
            MachineError: If the disk is full or fails.
        """
        values: dict[str, Any] = {
            "passed": self.passed,
            "counterexample": self.counterexample,
            "checks": [asdict(check) for check in self.checks],
            "facts": dict(self.facts),
            "notes": list(self.notes),
        }
        try:
            with made(path.parent):
                write_json(path, values)
        except OSError as error:
            text = f"--output must be writable, got {path} ({reason(error)})"
            raise file_error(error, text, "Choose another.") from None
