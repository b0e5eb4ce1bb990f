#!/usr/bin/env python3
"""Types Ctrl-C into scripts/demo.sh on a bare machine, once in each phase, and then lets it end.

    interrupt.py ROOT LOG

ROOT is what `scripts/test-bare.sh --keep --without-archive -- true` leaves. The demonstration
runs on a terminal of its own, so Ctrl-C reaches what a person's would reach. After each, LOG says
how long it took to end, what it said, which processes and mounts it left, and how many steps of
the V8 build the next run found. Fails if a run did not end within two minutes of its Ctrl-C or
left something, or if the last run failed.
"""

import os
import pty
import re
import select
import signal
import sys
import time

QUESTION = "install them now? [Y/n]"
# What a run prints, and how many seconds after it Ctrl-C is typed.
MOMENTS = [
    (re.escape(QUESTION), 0.2),
    (r"Unpacking ", 1),
    (r"Setting up ", 1),
    (r"cargo fetches", 2),
    (r"Retrieving ", 2),
    (r"Debian root: Unpacking ", 2),
    (r"Debian root: Configuring ", 3),
    (r"compiler: the newest clang", 1.2),
    (r"Retrieving file", 0.5),
    (r"compiler: Unpacking", 0.5),
    (r"compiler: Installing", 2),
    (r"sysroot: ", 0.5),
    (r"configuring: ", 2),
    (r"step 1", 30),
    (r"step 2", 20),
    (r"step 3", 60),
    (r"step 3", 300),
    (r"compressing: lib", 3),
    (r"Compiling pool-worker ", 5),
    (r"== 4\. http", 0.1),
]


class Log:
    def __init__(self, path):
        self.file = open(path, "a", buffering=1, encoding="utf-8")

    def note(self, *words):
        print(time.strftime("%T"), *words, file=self.file)


def left_behind(root):
    """Processes that live in the machine's files, and mounts below them."""
    processes = []
    # By what their root is, not by its name: they have a mount namespace of their own, where it has another one.
    roots = [root, os.path.join(root, "var/tmp/process-pool-v8/root")]
    roots = [os.stat(path) for path in roots if os.path.exists(path)]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(os.path.samestat(os.stat(f"/proc/{pid}/root"), one) for one in roots):
                with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                    processes.append(f"{pid} {file.read().replace(chr(0), ' ')[:80]}")
        except OSError:
            continue  # it has ended, or is a thread of the kernel
    with open("/proc/mounts", encoding="utf-8") as file:
        return processes, [line.strip() for line in file if root in line]


def lines_of(text):
    return [line for line in re.split(r"[\r\n]+", text.replace("\x1b[K", "")) if line.strip()]


def start(command):
    pid, terminal = pty.fork()
    if pid == 0:
        # A caller in the background may have had these ignored.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    return pid, terminal


class Run:
    """One run of the demonstration."""

    def __init__(self, command):
        self.pid, self.terminal = start(command)
        self.text, self.began = "", time.monotonic()
        self.typed_at = self.length_then = None
        self.stuck = False

    def read(self):
        """Reads for a moment. False: the run has closed its terminal."""
        readable, _, _ = select.select([self.terminal], [], [], 0.2)
        if not readable:
            return True
        try:
            data = os.read(self.terminal, 65536)
        except OSError:
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def to_its_end(self, pattern, delay):
        answered, due = 0, None
        while self.read():
            asked = self.text.count(QUESTION) > answered
            if asked and not (pattern and re.search(pattern, QUESTION)):
                answered += 1
                os.write(self.terminal, b"\n")
            if pattern and due is None and re.search(pattern, self.text):
                due = time.monotonic() + delay
            if due and self.typed_at is None and time.monotonic() >= due:
                self.typed_at, self.length_then = time.monotonic(), len(self.text)
                os.write(self.terminal, b"\x03")
            if self.typed_at and time.monotonic() - self.typed_at > 120 and not self.stuck:
                self.stuck = True
                os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def interrupted(root, log, command, pattern, delay):
    """One run with Ctrl-C. Whether it behaved."""
    run = Run(command)
    code = run.to_its_end(pattern, delay)
    seconds = time.monotonic() - run.began
    if run.typed_at is None:
        log.note(f"not reached: {pattern!r}; the run ended with {code} after {seconds:.0f} s")
        return False
    after = time.monotonic() - run.typed_at
    log.note(f"Ctrl-C {delay} s after {pattern!r}: ended {after:.1f} s later, with {code}")
    log.note("  before:", lines_of(run.text[: run.length_then])[-1][:150])
    log.note("  said:", " | ".join(lines_of(run.text[run.length_then :])[-4:])[:400])
    for line in lines_of(run.text):
        if re.search(r"steps (of ninja are )?left", line) and re.match(r"\d\d:", line):
            log.note("  found:", line[:150])
    processes, mounts = left_behind(root)
    log.note("  left behind:", processes, mounts)
    return not (run.stuck or processes or mounts or code == 0)


def main():
    root, log = os.path.realpath(sys.argv[1]), Log(sys.argv[2])
    script = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "test-bare.sh")
    command = [script, "--root", root, "--without-archive", "--", "scripts/demo.sh"]
    good = all([interrupted(root, log, command, *moment) for moment in MOMENTS])
    last = Run(command)
    code = last.to_its_end(None, 0)
    log.note(f"without Ctrl-C: ended with {code} after {time.monotonic() - last.began:.0f} s")
    for line in lines_of(last.text)[-12:]:
        log.note("  ", line[:160])
    return 0 if good and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
