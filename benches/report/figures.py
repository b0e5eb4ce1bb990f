"""Figures: what each means, the middle and the ends of several, and how they are written."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Metric:
    """A column: its title with its unit, and whether more of it is better."""

    title: str
    more_is_better: bool = False


METRICS = {
    "rate": Metric("tasks/s", more_is_better=True),
    "p50Us": Metric("p50 µs"),
    "p99Us": Metric("p99 µs"),
    "cpuUs": Metric("CPU µs/task"),
    "pssMb": Metric("memory MB"),
    "mbPerSecond": Metric("MB/s", more_is_better=True),
    "seconds": Metric("seconds"),
    "lost": Metric("good tasks lost"),
    "coldMs": Metric("ms to the first result"),
    "startMs": Metric("ms from spawn to ready"),
    "emptyRate": Metric("submitted/s, empty queue", more_is_better=True),
    "fillRate": Metric("submitted/s, while it fills", more_is_better=True),
    "fullRate": Metric("submitted/s, full queue", more_is_better=True),
    "bytesPerTask": Metric("bytes of overhead per waiting task"),
    "fewDrainRate": Metric("drained/s, few waiting", more_is_better=True),
    "manyDrainRate": Metric("drained/s, all waiting", more_is_better=True),
    "idlePercent": Metric("% of a core, supervisor and workers"),
    "workerMb": Metric("MB per worker"),
    "supervisorMb": Metric("MB of the supervisor"),
}


@dataclass(frozen=True)
class Spread:
    """The middle of several values and their ends."""

    median: float
    low: float
    high: float


def spread(numbers: list[float]) -> Spread | None:
    """Of some numbers; nothing of none."""
    return Spread(median(numbers), min(numbers), max(numbers)) if numbers else None


def values(rounds: list[dict], metric: str) -> list[float]:
    """A metric of those rounds that have it."""
    return [figures[metric] for figures in rounds if figures.get(metric) is not None]


def spread_of(rounds: list[dict], metric: str) -> Spread | None:
    """The spread of a metric over those rounds that have it."""
    return spread(values(rounds, metric))


def number(value: float) -> str:
    """Three digits that count, thousands apart: what lies below is noise."""
    if abs(value) < 100:
        return f"{value:.3g}"
    step = 10 ** (len(str(round(abs(value)))) - 3)
    return f"{round(value / step) * step:,}"


def cell(figure: Spread | None) -> str:
    """A table's cell: the median, and the ends where there are several rounds."""
    if figure is None:
        return "–"
    if figure.low == figure.high:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.low)}–{number(figure.high)})"
