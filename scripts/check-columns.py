#!/usr/bin/env python3
"""Fails where a line of a Rust or Markdown file is over 100 columns.

    scripts/check-columns.py [FILE…]     all files of the repository when none is named

Let pass: in Markdown, tables, fenced text (commands and what programs print) and lines of one long
link; in Rust, what a string quotes that no `\\` can break: raw strings, and strings of several
lines. CONTRIBUTING.md says why.
"""
import re
import subprocess
import sys
from pathlib import Path

COLUMNS = 100
# Data of others' making, kept as it came.
QUOTED = ("pool-worker-bin/src/js/escapes/vm2.rs", "docs/tour.svg")
TOKEN = re.compile(
    r"//[^\n]*"
    r"|/\*.*?\*/"
    r"|\b[bc]?r(?P<hashes>#*)\".*?\"(?P=hashes)"
    r"|\"(?:\\.|[^\"\\])*\""
    r"|'(?:\\u\{\w+\}|\\.|[^'\\])'",
    re.DOTALL,
)


def over(text: str) -> list[int]:
    """Numbers of the lines that are too long."""
    return [number for number, line in enumerate(text.split("\n"), 1) if len(line) > COLUMNS]


def in_rust(text: str) -> list[int]:
    """Those of a Rust file; lines that a quotation makes long are let pass."""
    quoted: set[int] = set()
    for token in TOKEN.finditer(text):
        words = token.group()
        if words.startswith(("//", "/*", "'")):
            continue
        first = text.count("\n", 0, token.start()) + 1
        lines = words.split("\n")
        # A line that ends with a backslash was broken by whoever wrote it, and could be again.
        is_plain = words.startswith('"') and all(line.endswith("\\") for line in lines[:-1])
        if not is_plain:
            quoted.update(range(first, first + len(lines)))
    return [number for number in over(text) if number not in quoted]


def in_markdown(text: str) -> list[int]:
    """Those of a page, without its tables, fenced texts and links."""
    lines = text.split("\n")
    exempt, fence = set(), False
    for number, line in enumerate(lines, 1):
        is_fence = line.lstrip().startswith("```")
        fence ^= is_fence
        if fence or is_fence or line.lstrip().startswith("|") or re.search(r"\S{90,}", line):
            exempt.add(number)
    return [number for number in over(text) if number not in exempt]


def main() -> int:
    """Names each line, and counts."""
    files = sys.argv[1:] or subprocess.check_output(
        ["git", "ls-files", "*.rs", "*.md"], text=True
    ).split()
    wrong = []
    for name in files:
        if name not in QUOTED:
            text = Path(name).read_text()
            found = in_rust(text) if name.endswith(".rs") else in_markdown(text)
            wrong += [f"{name}:{number}" for number in found]
    for place in wrong:
        print(f"{place}: over {COLUMNS} columns", file=sys.stderr)
    bad = {place.split(":")[0] for place in wrong}
    print(f"{len(files) - len(bad)} files within {COLUMNS} columns")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
