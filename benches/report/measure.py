"""Runs the rows in alternation: round 1 of every system, then round 2 of every system, so that a machine that drifts drifts for all."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import readers
from .plan import Row, Table
from .tools import Tools


class Failed(Exception):
    """A row gave no figures."""


class Hung(Failed):
    """It did not end in time."""


def run(argv: list[str], folder: Path, timeout: float) -> dict:
    """The JSON object of the last line that a command prints.

    It leads a process group of its own, which is killed when the command has ended or hangs, and its temporary files go with it.
    What it prints goes to files: a child that outlives its pool would keep a pipe open.
    """
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):
        environment = {**os.environ, "SPAWNED_NS": str(time.time_ns()), "TMPDIR": scratch}
        process = subprocess.Popen(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise Hung(f"did not end within {timeout:.0f} s") from error
        finally:
            kill_group(process)
        printed, said = (read_all(file) for file in (out, err))
    # Printed figures are right whatever happens on the way out.
    if printed and printed[-1].startswith("{"):
        return json.loads(printed[-1])
    raise Failed(complaint(said) or f"ended with {process.returncode} and said nothing")


def figures(row: Row, printed: dict) -> readers.Figures:
    """What was printed, read; a program of another version may print something else."""
    try:
        return row.read(printed)
    except KeyError as error:
        raise Failed(f"printed no {error}") from error


def complaint(said: list[str]) -> str | None:
    """The line that names the error: Node says its version after it."""
    lines = [line for line in said if "rror:" in line] or said
    return lines[-1] if lines else None


def kill_group(process: subprocess.Popen) -> None:
    """Ends what the command has left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_all(file) -> list[str]:
    """A temporary file's lines that are not blank."""
    file.seek(0)
    return [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]


class Measurement:
    """The rows' figures so far, in the shape of `results.json`."""

    def __init__(self, plan: list[Table], tools: Tools, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.tools = tools
        self.say = say
        self.hung: set[tuple[str, str]] = set()
        self.rows = {(table.key, row.system): self.blank(row) for table in plan for row in table.rows}

    def blank(self, row: Row) -> dict:
        """A row without figures."""
        return {"system": row.system, "command": self.tools.shown(row), "rounds": [], "failures": []}

    def tables(self) -> list[dict]:
        """All figures by table."""
        return [
            {
                "letter": table.letter,
                "key": table.key,
                "title": table.title,
                "columns": list(table.columns),
                "plot": table.plot,
                "rows": [self.rows[table.key, row.system] for row in table.rows],
            }
            for table in self.plan
        ]

    def round(self, number: int) -> None:
        """One round of every row."""
        for table in self.plan:
            if table.once and number > 0:
                continue
            self.say(f"round {number + 1}: ({table.letter}) {table.title}")
            # Nobody always comes first, or always after the same one.
            at = number % len(table.rows)
            for row in (*table.rows[at:], *table.rows[:at]):
                self.row(table, row)

    def row(self, table: Table, row: Row) -> None:
        """One round of one row. What hung once is not waited for again."""
        if (table.key, row.system) in self.hung:
            return
        into = self.rows[table.key, row.system]
        reason = self.tools.missing.get(row.peer or "")
        try:
            if reason:
                raise Hung(f"not installed: {reason}")
            printed = run(self.tools.argv(row), self.tools.repository, row.timeout)
            into["rounds"].append(figures(row, printed))
        except Failed as error:
            into["failures"].append(str(error))
            self.say(f"  {row.system}: {error}")
            if isinstance(error, Hung):
                self.hung.add((table.key, row.system))
