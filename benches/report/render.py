"""`results.json` and the notes made into RESULTS.md. Pure: the same input gives the same text."""

from collections.abc import Sequence

from .aims import Verdict, judge
from .figures import METRICS, cell, number, spread_of
from .plan import TITLES

HOW = """\
Each figure is their median, with the least and the most of them in parentheses. The
rounds alternate: each system's first, then each system's second, and so on, so that a machine that
drifts drifts for all. Compare ratios: absolute figures are this machine's."""

SETTING = """\
Everything runs on one machine: the pool, two workers (unless said otherwise) and the client.
Fairness, priorities, statistics, limits, verdicts and isolation (`standard`) are on in every
measurement of this pool. CPU time is that of all processes, the client among them; memory is the
proportional set size, for this pool of supervisor and workers, for a peer of its workers and of the
program that holds it."""


def document(results: dict, notes: dict[str, str], drawn: set[str]) -> str:
    """The whole text; `notes` by letter, `drawn` are the tables that have a plot."""
    tables = results["tables"]
    letters = sorted({table["letter"] for table in tables})
    parts = [
        "# This pool and its peers, side by side\n",
        introduction(results),
        "## Aims\n",
        aims(judge(tables)),
        *(workload(letter, tables, notes.get(letter, ""), drawn) for letter in letters),
        "## Machine and versions\n",
        facts("machine", results["machine"]),
        facts("program", results["versions"]),
        not_measured(results["notMeasured"]),
    ]
    return "\n".join(part for part in parts if part)


def introduction(results: dict) -> str:
    """How it was measured."""
    lines = [
        f"Written by `benches/run`, not by hand; `{results['command']}` on {results['machine']['date']}.",
        f"Rounds: {results['rounds']}. {HOW}",
        SETTING,
        f"Bytes through other network interfaces than loopback during the measurement: {results['bytesAbroad']:,}.",
    ]
    if results["quick"]:
        lines.insert(0, "**A quick run, for trying: a tenth of the tasks. Its figures prove nothing.**")
    return "\n\n".join(lines) + "\n"


def aims(verdicts: list[Verdict]) -> str:
    """The table of aims."""
    rows = [
        (f"({v.aim.letter}) {v.aim.says}", f"{'≥' if v.aim.at_least else '≤'} {number(v.aim.bound)}", cell(v.figure), met(v))
        for v in verdicts
    ]
    return markdown_table(("what", "aim", "measured", "result"), rows)


def met(verdict: Verdict) -> str:
    """In words, and by how much it is missed."""
    if verdict.figure is None:
        return "not measured"
    if verdict.is_met:
        return "met"
    missed = abs(verdict.figure.median / verdict.aim.bound - 1)
    return f"**not met**, by {missed:.0%}"


def workload(letter: str, tables: list[dict], notes: str, drawn: set[str]) -> str:
    """A letter's section."""
    parts = [f"## ({letter}) {TITLES[letter]}\n"]
    for table in tables:
        if table["letter"] != letter:
            continue
        parts += [f"### {table['title'][0].upper()}{table['title'][1:]}\n", figures(table), failures(table)]
        if table["key"] in drawn:
            parts.append(f"![{table['title']}](plots/{table['key']}.svg)\n")
        parts.append(commands(table))
    parts.append(notes.strip() + "\n" if notes.strip() else "")
    return "\n".join(part for part in parts if part)


def figures(table: dict) -> str:
    """A table's rows and columns that have figures."""
    spreads = [[spread_of(row["rounds"], column) for column in table["columns"]] for row in table["rows"]]
    shown = [column for at, column in enumerate(table["columns"]) if any(row[at] for row in spreads)]
    if not shown:
        return ""
    rows = [
        (row["system"], *(cell(spread_of(row["rounds"], column)) for column in shown)) for row in table["rows"] if row["rounds"]
    ]
    return markdown_table(("system", *(METRICS[column].title for column in shown)), rows)


def failures(table: dict) -> str:
    """What a row could not do."""
    lines = []
    for row in table["rows"]:
        for reason in dict.fromkeys(row["failures"]):
            tried = len(row["rounds"]) + len(row["failures"])
            often = "" if not row["rounds"] else f", {len(row['failures'])} of {tried} rounds"
            lines.append(f"- {row['system']}: no figure{often}: {reason}")
    return "\n".join(lines) + "\n" if lines else ""


def commands(table: dict) -> str:
    """What was run, folded away."""
    lines = "\n".join(row["command"] for row in table["rows"])
    return f"<details><summary>commands</summary>\n\n```\n{lines}\n```\n</details>\n"


def facts(what: str, named: dict[str, str]) -> str:
    """Names and values; `what` is what has them."""
    value = "version" if what == "program" else "value"
    return markdown_table((what, value), sorted(named.items(), key=lambda item: item[0].lower()))


def not_measured(reasons: dict[str, str]) -> str:
    """The peers that are named and not measured."""
    lines = "\n".join(f"- {peer}: {reason}" for peer, reason in sorted(reasons.items()))
    return f"## Not measured\n\n{lines}\n" if lines else ""


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Numbers to the right, but for the first column."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def notes_by_letter(text: str) -> dict[str, str]:
    """Of NOTES.md: what stands under each heading `## a`."""
    notes: dict[str, list[str]] = {}
    letter = None
    for line in text.splitlines():
        if line.startswith("## "):
            letter = line[3:].strip()
            notes[letter] = []
        elif letter:
            notes[letter].append(line)
    return {letter: "\n".join(lines).strip() for letter, lines in notes.items()}
