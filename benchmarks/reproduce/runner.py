"""Runs the parts one after the other, with one line that says how far they are; remembers which have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.learning.processes import write_whole
from benchmarks.machine import description
from benchmarks.reproduce.parts import ROOT, Command, Part, Places

RECORD = "reproduced.json"
"""In the results folder: when each part ended, on what, and how long it took in all."""
INTERRUPTED = 130
LINE_WIDTH = 118


def run(parts: Mapping[str, Part], places: Places, *, again: bool) -> int:
    """Run the parts that have not ended; the exit code of the first command that fails."""
    for count, (name, part) in enumerate(parts.items(), start=1):
        label = f"[{count}/{len(parts)}] {name}"
        ended = record(places).get(name, {})
        if ended.get("finished") and not again:
            print(f"{label}: made before, {ended['finished']}")
            continue
        if again:
            part.forget(places)
        code = _run_part(name, part, label, places, again=again)
        if code:
            return code
    return 0


def record(places: Places) -> dict[str, Any]:
    """What is known of each part."""
    path = places.results / RECORD
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _run_part(name: str, part: Part, label: str, places: Places, *, again: bool) -> int:
    started, machine = time.perf_counter(), description()
    before = record(places).get(name, {})
    earlier_s = 0.0 if again or before.get("finished") else before.get("seconds", 0.0)
    code, commands = 0, part.commands(places)
    try:
        for command in commands:
            code = _execute(command, label, places.runs / f"{name}.log")
            if code:
                break
    except KeyboardInterrupt:
        code = INTERRUPTED
    seconds = round(earlier_s + time.perf_counter() - started, 1)
    entry = {"seconds": seconds, "machine": machine, "commands": [_shown(command) for command in commands]}
    if not code:
        part.keep(places)
        entry["finished"] = datetime.now(UTC).strftime("%Y-%m-%d")
    write_whole(places.results / RECORD, json.dumps({**record(places), name: entry}, indent=1) + "\n")
    _say(f"{label}: {'done' if not code else 'stopped'}, {seconds:,.0f} s", is_last=True)
    if code and code != INTERRUPTED:
        log = places.runs / f"{name}.log"
        print(f"{label} must end well, got exit code {code}. The end of {log}:", file=sys.stderr)
        print("".join(log.read_text().splitlines(keepends=True)[-8:]), file=sys.stderr, end="")
    elif code:
        print(f"Interrupted. The same command{' without --again' if again else ''} goes on from here.", file=sys.stderr)
    return code


def _execute(command: Command, label: str, log: Path) -> int:
    """Run it; its last line is shown, all of them go to the log. An interrupt ends it and all processes below it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    with (
        log.open("a") as lines,
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        ) as process,
    ):
        assert process.stdout is not None
        started = time.perf_counter()
        try:
            for line in process.stdout:
                lines.write(line)
                lines.flush()
                if line.strip():
                    _say(f"{label} {time.perf_counter() - started:,.0f} s: {line.strip()}", is_last=False)
            return process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGTERM)
            lines.write(process.communicate()[0])
            raise


def _say(text: str, *, is_last: bool) -> None:
    """One line that is written over on a terminal; elsewhere only what is final."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text[:LINE_WIDTH]}", end="\n" if is_last else "", flush=True)
    elif is_last:
        print(text, flush=True)


def _shown(command: Command) -> str:
    """A command as a user would type it."""
    return " ".join(["python", *(part.removeprefix(f"{ROOT}/") for part in command)])
