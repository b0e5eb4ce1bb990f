"""What the figures must show. An aim compares a median with a bound, or with another median of the same run."""

from dataclasses import dataclass

from .figures import METRICS, Spread, spread, values
from .plan import FLOOR, FLOOR_BATCHED, OURS, PEBBLE, PISCINA_VM, RECYCLED, SINGLE_TASK_PEERS


@dataclass(frozen=True)
class Pick:
    """A figure; of several systems, the best one's."""

    table: str
    systems: tuple[str, ...]
    metric: str


@dataclass(frozen=True)
class Aim:
    """That `value`, or its ratio to `against`, is at least or at most the bound."""

    letter: str
    says: str
    value: Pick
    bound: float
    at_least: bool = True
    against: Pick | None = None


@dataclass(frozen=True)
class Verdict:
    """How an aim came out; without a figure it was not measured."""

    aim: Aim
    figure: Spread | None

    @property
    def is_met(self) -> bool | None:
        """Nothing where nothing was measured."""
        if self.figure is None:
            return None
        median, bound = self.figure.median, self.aim.bound
        return median >= bound if self.aim.at_least else median <= bound


def pick(table: str, system: str | tuple[str, ...], metric: str) -> Pick:
    """A pick of one system or the best of several."""
    return Pick(table, (system,) if isinstance(system, str) else system, metric)


WORKERS = tuple(str(2**power) for power in range(9))

AIMS = (
    Aim("a", "tasks a second, 512 in flight", pick("a-512", OURS, "rate"), 200_000),
    Aim(
        "a",
        "throughput to the best peer's, 512 in flight",
        pick("a-512", OURS, "rate"),
        5,
        against=pick("a-512", SINGLE_TASK_PEERS, "rate"),
    ),
    Aim(
        "a",
        "throughput to the floor relay's, 512 in flight",
        pick("a-512", OURS, "rate"),
        0.25,
        against=pick("a-512", FLOOR, "rate"),
    ),
    Aim(
        "a",
        "throughput to the floor relay's with batches of 64 at most, 512 in flight",
        pick("a-512", OURS, "rate"),
        0.25,
        against=pick("a-512", FLOOR_BATCHED, "rate"),
    ),
    Aim(
        "a",
        "p50 to the floor relay's, 1 in flight",
        pick("a-1", OURS, "p50Us"),
        1.4,
        at_least=False,
        against=pick("a-1", FLOOR, "p50Us"),
    ),
    Aim(
        "b",
        "fresh: throughput to piscina's with `vm`, 512 in flight",
        pick("b-512", f"{OURS}, fresh", "rate"),
        2.5,
        against=pick("b-512", PISCINA_VM, "rate"),
    ),
    Aim("b", "fresh: p50 in µs, 1 in flight", pick("b-1", f"{OURS}, fresh", "p50Us"), 150, at_least=False),
    Aim(
        "b",
        "frozen: throughput to the warm realm's, known code",
        pick("b-512", f"{OURS}, frozen", "rate"),
        0.8,
        against=pick("b-512", f"{OURS}, warm", "rate"),
    ),
    Aim(
        "b",
        "frozen: tasks a second, new code each time",
        pick("b-512", f"{OURS}, frozen, new code each time", "rate"),
        60_000,
    ),
    Aim(
        "c",
        "1 MB: bytes a second to the floor relay's",
        pick("c-1MB", OURS, "mbPerSecond"),
        0.6,
        against=pick("c-1MB", FLOOR, "mbPerSecond"),
    ),
    Aim("e", "ms from the daemon's start to the first result", pick("e", OURS, "coldMs"), 40, at_least=False),
    Aim("f", "ms from a worker's spawn to ready", pick("f", OURS, "startMs"), 12, at_least=False),
    Aim(
        "g",
        "no-op tasks: throughput with recycling after 100 to without",
        pick("g-100", f"{OURS}, {RECYCLED}", "rate"),
        0.9,
        against=pick("g-100", OURS, "rate"),
    ),
    Aim(
        "g",
        "tasks of 5 ms: throughput with recycling after 100 to without",
        pick("g-100-burn", f"{OURS}, {RECYCLED}", "rate"),
        0.9,
        against=pick("g-100-burn", OURS, "rate"),
    ),
    Aim("g", "tasks a second, a process for each", pick("g-1", OURS, "rate"), 250),
    Aim("h", "seconds to pebble's", pick("h", OURS, "seconds"), 0.6, at_least=False, against=pick("h", PEBBLE, "seconds")),
    Aim("i", "submit rate to an empty queue's", pick("i", OURS, "fullRate"), 0.9, against=pick("i", OURS, "emptyRate")),
    Aim("i", "bytes of overhead per waiting task", pick("i", OURS, "bytesPerTask"), 300, at_least=False),
    Aim(
        "i",
        "drain rate, all waiting to few waiting (O(log n): the logarithm doubles)",
        pick("i", OURS, "manyDrainRate"),
        0.5,
        against=pick("i", OURS, "fewDrainRate"),
    ),
    Aim("k", "256 workers' throughput to the best", pick("k", "256", "rate"), 0.8, against=pick("k", WORKERS, "rate")),
    *(
        Aim(
            "n",
            f"{projects} projects' throughput to one's",
            pick("n", projects, "rate"),
            bound,
            against=pick("n", "1", "rate"),
        )
        for projects, bound in (("50", 0.6), ("200", 0.4), ("1000", 0.25))
    ),
    Aim("l", "% of a core", pick("l", OURS, "idlePercent"), 0.1, at_least=False),
    Aim("l", "MB per idle worker", pick("l", OURS, "workerMb"), 12, at_least=False),
)


def judge(tables: list[dict]) -> list[Verdict]:
    """The aims of those letters that were measured."""
    letters = {table["letter"] for table in tables}
    return [Verdict(aim, figure_of(aim, tables)) for aim in AIMS if aim.letter in letters]


def figure_of(aim: Aim, tables: list[dict]) -> Spread | None:
    """The median of the value, or the ratio of the medians. A ratio's ends are those of its rounds, which were side by side."""
    value = best(aim.value, tables)
    if value is None:
        return None
    if aim.against is None:
        return value.spread
    other = best(aim.against, tables)
    if other is None:
        return None
    ratio = value.spread.median / other.spread.median
    # After a failed round it is not known which belong together.
    pairs = zip(value.rounds, other.rounds, strict=True) if len(value.rounds) == len(other.rounds) else ()
    ratios = [ratio, *(one / two for one, two in pairs)]
    return Spread(ratio, min(ratios), max(ratios))


@dataclass(frozen=True)
class Measured:
    """A system's values of a metric, round by round."""

    rounds: list[float]
    spread: Spread


def best(wanted: Pick, tables: list[dict]) -> Measured | None:
    """The system with the best median, of those that have figures."""
    rows = [row for table in tables if table["key"] == wanted.table for row in table["rows"]]
    known = []
    for row in rows:
        rounds = values(row["rounds"], wanted.metric)
        if row["system"] in wanted.systems and (ends := spread(rounds)):
            known.append(Measured(rounds, ends))
    order = max if METRICS[wanted.metric].more_is_better else min
    return order(known, key=lambda measured: measured.spread.median, default=None)
