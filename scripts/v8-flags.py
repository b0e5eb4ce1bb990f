#!/usr/bin/env python3
"""Removes from the ninja files of V8 the flags that the compiler at hand does not know.

V8 is written for one clang of its authors' making, and Debian offers another. A flag that only
tunes the code must not stop the build. Runs in gn's output folder, before the first step.

Each kind of command (compiler or linker, with one set of flags) is tried once on an empty file. A
complaint about an unknown flag names it; it is taken out of every ninja file, and the command is
tried again. Other complaints are left to the build itself.
"""
import pathlib
import re
import shlex
import subprocess
import sys

COMPLAINTS = [
    re.compile(r"unknown argument:? '([^']+)'"),
    re.compile(r"unsupported option '([^']+)'"),
    re.compile(r"Unknown command line argument '([^']+)'"),
    re.compile(r"unknown argument '([^']+)'"),
]
# What these are followed by belongs to them.
PAIRED = {"-Xclang", "-mllvm", "-include", "-include-pch", "-isystem", "-target"}


def kinds(commands):
    """One command of each kind, less its files."""
    found = {}
    for line in commands.splitlines():
        words = shlex.split(line) if "clang" in line else []
        if not words or not re.search(r"/clang(\+\+)?$", words[0]):
            continue
        flags, position = [], 1
        while position < len(words):
            word = words[position]
            if word in ("-o", "-MF", "-c", "-include-pch", "-x"):
                position += 2 if word != "-c" or not words[position + 1].startswith("-") else 1
                continue
            if word in PAIRED:
                flags.append((word, words[position + 1]))
                position += 2
                continue
            if word.startswith("-") and not word.startswith(("-MMD", "-MD", "-fmodule-name=")):
                flags.append((word,))
            position += 1
        compiles = "-c" in words
        found[(words[0], compiles, tuple(flags))] = None
    return list(found)


def complaints(kind):
    compiler, compiles, flags = kind
    words = [word for flag in flags for word in flag]
    language = "c++" if compiler.endswith("++") else "c"
    if compiles:
        command = [compiler, *words, "-w", "-fsyntax-only", "-x", language, "/dev/null"]
    else:
        command = [compiler, *words, "-Wl,--version"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 0:
        return set()
    return {flag for shape in COMPLAINTS for flag in shape.findall(done.stderr)}


def remove(text, flag):
    """The text of a ninja file without the flag, in each of the forms that it can have there."""
    name = re.escape(flag)
    for before in (r"-Xclang\s+-mllvm\s+-Xclang\s+", r"-Xclang[=\s]\s*", r"-mllvm\s+", r"-Wl,(?:-mllvm,)?", ""):
        text = re.sub(rf"(?<=[ =]){before}{name}(?:=[^\s]*)?(?=\s|$)", "", text, flags=re.M)
    return text


def main():
    files = list(pathlib.Path(".").rglob("*.ninja"))
    removed = set()
    while True:
        commands = subprocess.run(["ninja", "-t", "commands", *sys.argv[1:]], check=True,
                                  capture_output=True, text=True).stdout
        unknown = set()
        for kind in kinds(commands):
            unknown |= complaints(kind)
        unknown -= removed
        if not unknown:
            break
        for flag in sorted(unknown):
            print(f"flags: this compiler does not know {flag}; the build goes without it")
        for file in files:
            old = file.read_text()
            new = old
            for flag in unknown:
                new = remove(new, flag)
            if new != old:
                file.write_text(new)
        removed |= unknown
    print(f"flags: {len(removed)} removed")


if __name__ == "__main__":
    main()
