"""What this process and all below it use, from the kernel's own books."""

import os
import re
from pathlib import Path

TICKS_A_SECOND = 100


def below(root):
    """Pids and ticks of a process and all below it; what ends meanwhile is in its parent's books."""
    parents, ticks = {}, {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            # The name, which stands before, may hold blanks and parentheses.
            fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry)] = int(fields[1])
        ticks[int(entry)] = sum(map(int, fields[11:15]))

    def is_below(pid):
        return pid == root or (pid in parents and is_below(parents[pid]))

    return {pid: used for pid, used in ticks.items() if is_below(pid)}


def cpu_seconds():
    """CPU seconds, those of children that have ended included."""
    return sum(below(os.getpid()).values()) / TICKS_A_SECOND


def proportional_bytes():
    """Bytes of memory; pages that several share count in proportion."""
    kibibytes = 0
    for pid in below(os.getpid()):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        kibibytes += int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1])
    return kibibytes * 1024
