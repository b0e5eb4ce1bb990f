#!/usr/bin/env python3
"""Decodes the golden frames by the tables of docs/protocol.md, and by nothing else.

    python3 protocol/test_golden.py

So the wire can be implemented from its document: a field that the page does not have, has in
another place or under another type fails here. Prints `N passed, N failed`.
"""
import json
import re
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = struct.Struct("<BBHIQ")


def sections(page: str) -> dict[str, list[list[str]]]:
    """The rows of the table under each heading of the fourth level."""
    found = {}
    for part in re.split(r"^#### ", page, flags=re.MULTILINE)[1:]:
        part = re.split(r"^#{1,3} ", part, flags=re.MULTILINE)[0]
        name = part.split("`")[1]
        rows = [line for line in part.splitlines() if line.startswith("|")]
        found[name] = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    return found


class Head:
    """The bytes of a head that have not been read."""

    def __init__(self, data: bytes, tables: dict[str, list[list[str]]]) -> None:
        self.left, self.tables = data, tables

    def take(self, count: int) -> bytes:
        if count > len(self.left):
            raise ValueError(f"{count} bytes are wanted, {len(self.left)} are left")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def number(self) -> int:
        first = self.take(1)[0]
        width = {251: 2, 252: 4, 253: 8}.get(first)
        if width is None:
            if first > 250:
                raise ValueError(f"no number begins with {first}")
            return first
        return int.from_bytes(self.take(width), "little")

    def value(self, kind: str):
        """A value of a type as the page writes it."""
        if kind.endswith("?"):
            return self.value(kind[:-1]) if self.value("bool") else None
        if kind.startswith("["):
            return [self.value(kind[1:-1]) for _ in range(self.number())]
        if kind.startswith("("):
            return [self.value(part.strip()) for part in kind[1:-1].split(",")]
        if kind == "u8":
            return self.take(1)[0]
        if kind == "bool":
            return {0: False, 1: True}[self.take(1)[0]]
        if kind in ("u16", "u32", "u64"):
            return self.number()
        if kind == "f64":
            return struct.unpack("<d", self.take(8))[0]
        if kind == "text":
            return self.take(self.number()).decode()
        return self.named(kind)

    def named(self, kind: str):
        """A struct, an enum, or a set of bits, by its table."""
        rows = self.tables[kind]
        if not rows[0][0].isdigit():
            return {field.strip("`"): self.value(type_) for field, type_, *_ in rows}
        number = self.number()
        if kind == "LayerSet":
            return [row[1].strip("`") for row in rows if number >> int(row[0]) & 1]
        row = rows[number]
        if int(row[0]) != number:
            raise ValueError(f"{kind}: row {number} has number {row[0]}")
        if len(row) == 2:
            return row[1].strip("`")
        fields = re.findall(r"`(\w+)` (\S+?)(?:,|$)", row[2])
        return {row[1].strip("`"): {field: self.value(type_) for field, type_ in fields}}


def problem(entry: dict, tables: dict[str, list[list[str]]], kinds: set[int]) -> str | None:
    """What the page says otherwise than the bytes."""
    frame = bytes.fromhex(entry["frame"])
    kind, zero, head_len, body_len, _ = HEADER.unpack_from(frame)
    rest = frame[HEADER.size :]
    if zero or len(rest) != head_len + body_len:
        return "its lengths are not those of its header"
    if kind not in kinds:
        return f"kind 0x{kind:02x} has no row"
    head = Head(rest[:head_len], tables)
    try:
        fields = head.named(entry["head"]) if entry["head"] else {}
    except (KeyError, ValueError, IndexError) as error:
        return f"it does not read: {error!r}"
    if head.left:
        return f"{len(head.left)} bytes are left over"
    return None if fields == entry["fields"] else f"it reads as {fields}"


def main() -> int:
    """Every golden frame, and that every head of the page has one."""
    page = (ROOT / "docs/protocol.md").read_text()
    golden = json.loads((ROOT / "protocol/golden.json").read_text())
    tables = sections(page)
    kinds = {int(kind, 16) for kind in re.findall(r"^\| `(0x[0-9a-f]{2}) \w+`", page, re.MULTILINE)}
    problems = {entry["name"]: problem(entry, tables, kinds) for entry in golden}
    shown = {entry["head"] for entry in golden}
    for name in tables:
        if name.endswith("Head") or name in ("TaskList", "ControlRequest"):
            problems[f"{name} has golden bytes"] = None if name in shown else "it has none"
    requests = {row[1].strip("`") for row in tables["ControlRequest"]}
    given = {name for entry in golden if entry["head"] == "ControlRequest" for name in entry["fields"]}
    problems["every request has golden bytes"] = None if given == requests else str(requests ^ given)
    failed = {name: what for name, what in problems.items() if what}
    for name, what in failed.items():
        print(f"{name}: {what}", file=sys.stderr)
    print(f"{len(problems) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
