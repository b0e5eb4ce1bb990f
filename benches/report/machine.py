"""Where and of what the figures are: machine, commit, date."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def facts(repository: Path) -> dict[str, str]:
    """What a reader needs to judge the figures."""
    commit = git(repository, "rev-parse", "--short=12", "HEAD")
    changed = git(repository, "status", "--porcelain", "--untracked-files=no")
    return {
        "CPU": first_value("/proc/cpuinfo", "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{int(first_value('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "load before": " ".join(f"{average:.2f}" for average in os.getloadavg()),
        "commit": commit + (" with changes" if changed else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def first_value(file: str, name: str) -> str:
    """What follows the colon in the first line that starts with the name."""
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def git(repository: Path, *arguments: str) -> str:
    """What git says."""
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def bytes_abroad(text: str) -> int:
    """Bytes through other interfaces than loopback, of `/proc/net/dev`: what is measured must use none."""
    total = 0
    for line in text.splitlines()[2:]:
        name, counts = line.split(":", 1)
        if name.strip() != "lo":
            columns = counts.split()
            total += int(columns[0]) + int(columns[8])
    return total
