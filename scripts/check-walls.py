#!/usr/bin/env python3
"""Fails where a wall between the rooms of a package has a hole that ARCHITECTURE.md does not name.

    scripts/check-walls.py

Two walls that the compiler does not keep:
- `impl Core` stands only in the files that tell the story of a task or a worker. A room is a type of
  its own, whose fields its own files alone can change.
- The modules of a package import each other in one direction: no circles, but for those below. One
  that is gone from the code has to go from the list as well.
"""
import re
import sys
from pathlib import Path

PACKAGES = (
    "protocol/src",
    "pool-os/src",
    "pool-client/src",
    "pool-supervisor/core/src",
    "pool-supervisor/edge/src",
    "pool-supervisor/src",
    "pool-worker-bin/core/src",
    "pool-worker-bin/src",
    "tests/src",
    "benches/src",
    "fuzz/src",
)
STORY = (
    "lib admission assign crowd tenancy running report retry end cancel suspect crash start scale "
    "recycle health drain stats invariants"
).split()
# One module of each circle that there still is, with all others of it; see ARCHITECTURE.md, "Walls".
CIRCLES = {
    "pool-supervisor/src": [
        {"http::gate", "http::link", "http::reply", "http::serve"},
        {"http::events", "http::routes", "http::tasks"},
        {
            *("shell::confinement", "shell::delivery", "shell::probe", "shell::pump"),
            *("shell::reactor", "shell::replies", "shell::start"),
        },
    ],
    "pool-worker-bin/src": [
        # Built-in functions are made of what the host lends them, and it lends them to the realm.
        {
            *("js::atomics", "js::clone", "js::code", "js::code::strict", "js::console"),
            *("js::context", "js::errors", "js::frozen", "js::held", "js::host", "js::inspect"),
            *("js::kinds", "js::method", "js::modules", "js::perform", "js::random"),
            *("js::serialize", "js::settle", "js::spot", "js::timers"),
        },
        {"js::modules::address", "js::modules::refusal", "js::modules::resolve", "js::modules::roots"},
        {"js::modules::cjs", "js::modules::esm", "js::modules::require_es", "js::modules::wrap"},
        {"js::memory", "js::watch"},
        {"lockdown::namespaces", "lockdown::root"},
        {"lockdown::seccomp", "lockdown::seccomp_io", "lockdown::seccomp_js"},
        {"run::end", "run::js_error"},
        {"shell::child", "shell::image"},
    ],
}
TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod \w+ \{.*?\n\}\n", re.DOTALL)
COMMENT = re.compile(r"//[^\n]*")
USE = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?use ([^;]+);", re.MULTILINE)
PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+")


def modules(source: Path) -> dict[str, str]:
    """The text of each module, without comments and tests."""
    found: dict[str, str] = {}
    for file in sorted(source.rglob("*.rs")):
        parts = list(file.relative_to(source).with_suffix("").parts)
        if parts[-1] in ("mod", "lib", "main"):
            parts.pop()
        text = COMMENT.sub("", TESTS.sub("", file.read_text()))
        name = "::".join(parts)
        found[name] = found.get(name, "") + text
    return found


def leaves(tree: str) -> list[str]:
    """The paths of a `use`, its braces opened."""
    tree = re.sub(r"\s+", "", re.sub(r"\s+as\s+\w+", "", tree))
    if "{" not in tree:
        return [tree]
    before, rest = tree.split("{", 1)
    parts, depth = [""], 0
    for letter in rest[: rest.rindex("}")]:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [before + leaf for part in parts if part for leaf in leaves(part)]


def target(path: str, of: str, known: dict[str, str]) -> str | None:
    """The module that a path in module `of` leads to."""
    segments = path.split("::")
    base = of.split("::") if of else []
    if segments[0] == "crate":
        base = []
    elif segments[0] == "super":
        base = base[:-1]
    elif segments[0] != "self":
        return None
    segments = segments[1:]
    while segments and segments[0] == "super":
        base, segments = base[:-1], segments[1:]
    for count in range(len(segments), -1, -1):
        name = "::".join(base + segments[:count])
        if name in known:
            return name
    return None


def imports(source: Path) -> dict[str, set[str]]:
    """Which modules each imports. What a module takes from those around it is no import."""
    known = modules(source)
    graph: dict[str, set[str]] = {}
    for name, text in known.items():
        paths = [leaf for use in USE.findall(text) for leaf in leaves(use)] + PATH.findall(text)
        to = {target(path, name, known) for path in paths} - {None, ""}
        graph[name] = {other for other in to if f"{name}::".find(f"{other}::") != 0}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules of which each can be reached from each."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            for other in graph[left.pop()] - seen:
                seen.add(other)
                left.append(other)
        return seen

    reach = {name: reached(name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        circle = {other for other in reach[name] if name in reach[other]}
        if circle and circle not in found:
            found.append(circle)
    return found


def holes() -> list[str]:
    """What is wrong, a line each."""
    wrong = []
    core = Path("pool-supervisor/core/src")
    for file in sorted(core.rglob("*.rs")):
        name = "::".join(file.relative_to(core).with_suffix("").parts)
        if re.search(r"^impl Core\b", file.read_text(), re.MULTILINE) and name not in STORY:
            wrong.append(f"{file}: `impl Core` in a room; give the room a verb, or tell the story")
    for package in PACKAGES:
        found, named = circles(imports(Path(package))), CIRCLES.get(package, [])
        for circle in found:
            if circle not in named:
                wrong.append(f"{package}: a circle of imports: {', '.join(sorted(circle))}")
        for circle in named:
            if circle not in found:
                wrong.append(f"{package}: a circle that is gone: {', '.join(sorted(circle))}")
    return wrong


if __name__ == "__main__":
    problems = holes()
    for problem in problems:
        print(problem, file=sys.stderr)
    count = sum(len(named) for named in CIRCLES.values())
    print(f"{len(PACKAGES)} packages, {count} circles that ARCHITECTURE.md names")
    sys.exit(1 if problems else 0)
