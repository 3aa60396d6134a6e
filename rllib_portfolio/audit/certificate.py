"""The certificate of an audit: the outcome of each check, and facts about the data."""

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
        name: Name of the check.
        status: PASS, FAIL, or "not run" if an earlier check failed.
        text: What was covered, the counterexample, or why the check was not run.
    """

    name: str
    status: Status
    text: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """The outcome of an audit.

    Attributes:
        checks: Checks in the order in which they ran.
        facts: Texts about the data, its hash, its windows, the subject and the versions, by label.
        notes: Notes of the market, and the limits of the certificate.
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
        """The first counterexample; None if no check failed."""
        return next((check.text for check in self.checks if check.status == "FAIL"), None)

    def write(self, path: Path) -> None:
        """Write the certificate as JSON.

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
