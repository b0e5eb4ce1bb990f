"""The one command: installs, measures, and writes `RESULTS.md`, `results.json` and `plots/`."""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from .machine import bytes_abroad, facts
from .measure import Measurement
from .plan import TITLES, Plan
from .render import document, notes_by_letter
from .tools import Tools

STARTED = time.monotonic()
BENCHES = Path(__file__).resolve().parent.parent
ALWAYS_MISSING = {"BullMQ on Redis": "it is a peer for durable tasks, which this pool does not have yet"}


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        prog="benches/run",
        description="Measures this pool and its peers side by side. A full run takes about 25 minutes; let nothing else run meanwhile.",
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks, one round: to see that everything works")
    parser.add_argument("--only", metavar="LETTERS", help="these workloads, as in a,b,g")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each [default: 5; with --quick: 1]")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where results go [default: benches; with --quick or --only: benches/tried]"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing: write the text and plots of results.json again")
    asked = parser.parse_args()
    asked.letters = set(asked.only.split(",")) if asked.only else set(TITLES)
    if unknown := asked.letters - set(TITLES):
        parser.error(f"no workload is called {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    asked.rounds = asked.rounds or (1 if asked.quick else 5)
    partial = asked.quick or asked.only
    asked.out = (asked.out or (BENCHES / "tried" if partial else BENCHES)).resolve()
    return asked


def say(line: str) -> None:
    """Progress, for who watches, with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:5.0f} s  {line}", file=sys.stderr, flush=True)


def measured(asked: argparse.Namespace, tools: Tools) -> None:
    """Measures, and writes `results.json` after every round: a run that is ended keeps what it has."""
    plan = Plan(scale=0.1 if asked.quick else 1, idle_seconds=5 if asked.quick else 60)
    tables = [table for table in plan.tables() if table.letter in asked.letters]
    measurement = Measurement(tables, tools, say)
    machine = facts(tools.repository)
    network = Path("/proc/net/dev")
    before = bytes_abroad(network.read_text())
    for number in range(asked.rounds):
        measurement.round(number)
        results = {
            "command": shlex.join(["benches/run", *sys.argv[1:]]),
            "quick": asked.quick,
            "rounds": number + 1,
            "machine": machine,
            "versions": tools.versions,
            "bytesAbroad": bytes_abroad(network.read_text()) - before,
            "notMeasured": {**ALWAYS_MISSING, **tools.missing},
            "tables": measurement.tables(),
        }
        (asked.out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def write(asked: argparse.Namespace, tools: Tools) -> None:
    """The text and the plots of `results.json`."""
    results = json.loads((asked.out / "results.json").read_text())
    plots = asked.out / "plots"
    command = [str(tools.venv_python), "-m", "report.plots", str(asked.out / "results.json"), str(plots)]
    if not tools.venv_python.exists() or subprocess.run(command, cwd=BENCHES, check=False).returncode:
        say("no plots were drawn: matplotlib is missing")
    drawn = {file.stem for file in plots.glob("*.svg")}
    notes = BENCHES / "NOTES.md"
    text = document(results, notes_by_letter(notes.read_text()), drawn)
    (asked.out / "RESULTS.md").write_text(text)
    say(f"{asked.out / 'RESULTS.md'} is written")


def main() -> int:
    """What `benches/run` does."""
    asked = arguments()
    # What runs is ended with this program, however it is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    asked.out.mkdir(parents=True, exist_ok=True)
    tools = Tools(BENCHES.parent, say)
    if not asked.render:
        tools.prepare()
        measured(asked, tools)
    write(asked, tools)
    return 0
