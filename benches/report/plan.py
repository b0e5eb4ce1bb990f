"""What is measured: the workloads a to n as tables of rows. A row is one command, run once in each round.

Counts are such that a row takes a second or two on two cores. Peers get their best settings that are known, and as many workers as
the pool: two.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from . import readers

OURS = "this pool"
FLOOR = "floor relay"
FLOOR_BATCHED = "floor relay, answers in batches of 64 at most"
FLOOR_UNBOUND = "floor relay, answers in batches of any size"
IMAP = "multiprocessing.Pool, imap_unordered"
CHUNKS = "multiprocessing.Pool, imap_unordered, chunks of 100"
APPLY = "multiprocessing.Pool, apply_async"
PISCINA_VM = "piscina, new vm context per task"
PEBBLE = "pebble"
RECYCLED = "recycled after 100"


@dataclass(frozen=True)
class Row:
    """A system at a workload."""

    system: str
    """As the table calls it."""
    program: str
    """What runs: `load`, `node`, `python` or `programs`."""
    arguments: tuple[str, ...]
    read: Callable[[dict], readers.Figures]
    """What its JSON says."""
    peer: str | None = None
    """The library or program that must be installed."""
    timeout: float = 60
    """Seconds after which it hangs."""


@dataclass(frozen=True)
class Table:
    """Rows that are compared with each other."""

    letter: str
    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    plot: str | None = None
    """The column that is drawn."""
    once: bool = False
    """One round is enough, as it takes long by itself."""


@dataclass(frozen=True)
class Peer:
    """A pool that runs functions."""

    system: str
    program: str
    name: str
    """As its script calls it."""
    package: str | None
    rate: int
    """About its no-op tasks a second with many in flight."""


PEERS = (
    Peer("piscina (threads)", "node", "piscina", "piscina", 38_000),
    Peer("workerpool (processes)", "node", "workerpool-process", "workerpool", 22_000),
    Peer("workerpool (threads)", "node", "workerpool-thread", "workerpool", 25_000),
    Peer("tinypool (processes)", "node", "tinypool", "tinypool", 14_000),
    Peer("child_process.fork", "node", "fork", None, 20_000),
    Peer("ProcessPoolExecutor", "python", "process-pool-executor", None, 15_000),
    Peer(APPLY, "python", "multiprocessing-pool", None, 25_000),
    Peer(PEBBLE, "python", "pebble", "pebble", 15_000),
    Peer("loky", "python", "loky", "loky", 10_000),
)
SINGLE_TASK_PEERS = (*(peer.system for peer in PEERS), IMAP)

LATENCY = ("rate", "p50Us", "p99Us", "cpuUs")


def load(system: str, *arguments: object, read=readers.of_load, timeout: float = 60) -> Row:
    """One of our load generator's measurements."""
    return Row(system, "load", (*map(str, arguments), "--json"), read, timeout=timeout)


def ours(system: str, workload: str, tasks: int, window: int, *more: object, timeout: float = 60) -> Row:
    """A closed loop on a pool of its own, with two workers unless `more` says otherwise."""
    workers = () if "--workers" in more else ("--workers", 2)
    counts = ("--tasks", tasks, "--window", window, "--rounds", 1)
    return load(system, "tasks", "--workload", workload, *counts, *workers, *more, timeout=timeout)


def floor(tasks: int, window: int, *more: object, system: str = FLOOR) -> Row:
    """The relay without work, whose echoes answer each frame by itself unless `system` says otherwise."""
    how = {FLOOR: ("--one-by-one",), FLOOR_BATCHED: ("--credit", 64), FLOOR_UNBOUND: ()}[system]
    return load(system, "floor", "--tasks", tasks, "--window", window, "--rounds", 1, *how, *more)


def peer_row(peer: Peer, kind: str, tasks: int, window: int, *more: object, read=readers.of_peer) -> Row:
    """A peer's closed loop."""
    arguments = (peer.name, kind, *map(str, (tasks, window, *more)))
    return Row(peer.system, peer.program, arguments, read, peer.package)


def python(system: str, name: str, *more: object, peer: str | None = None) -> Row:
    """One of Python's that is no `Peer`."""
    return Row(system, "python", (name, *map(str, more)), readers.of_peer, peer)


class Plan:
    """All tables; counts are multiplied by `scale`, and the idle pool is watched for `idle_seconds`."""

    def __init__(self, scale: float, idle_seconds: int) -> None:
        self.scale = scale
        self.idle_seconds = idle_seconds

    def tables(self) -> list[Table]:
        """In the order of their letters."""
        return [
            *(self.noop(window) for window in (1, 32, 512)),
            *(self.realms(window) for window in (1, 512)),
            *(self.echo(size, name, window) for size, name, window in ECHOES),
            self.burn(),
            self.cold(),
            self.starts(),
            self.recycled(),
            self.recycled_burning(),
            self.process_per_task(),
            self.spinners(),
            self.queued(),
            self.clients(),
            self.workers(),
            self.idle(),
            self.programs(),
            self.projects(),
        ]

    def count(self, tasks: float) -> int:
        """Tasks of a row that would have so many in a full run."""
        return max(20, int(tasks * self.scale))

    def noop(self, window: int) -> Table:
        share = {1: 0.4, 32: 0.8, 512: 1}[window]
        count = {1: 30_000, 32: 250_000, 512: 500_000}[window]
        peers = [peer_row(peer, "noop", self.count(peer.rate * share), window) for peer in PEERS]
        if window == 512:
            # All of its tasks are in flight: it takes an iterable.
            peers.append(python(IMAP, "pool-imap", "noop", self.count(50_000), window))
            peers.append(python(CHUNKS, "pool-imap", "noop", self.count(1_500_000), window, "--chunk", 100))
        floors = [floor(self.count(count), window)]
        if window > 1:
            floors += [floor(self.count(count), window, system=it) for it in (FLOOR_BATCHED, FLOOR_UNBOUND)]
        rows = (*floors, ours(OURS, "warm", self.count(count), window), *peers)
        columns = (*LATENCY, "pssMb") if window == 512 else LATENCY
        plot = "p50Us" if window == 1 else "rate"
        return Table("a", f"a-{window}", f"{window} in flight", columns, rows, plot)

    def realms(self, window: int) -> Table:
        vm = replace(PEERS[0], system=PISCINA_VM)
        isolated = Peer(
            "isolated-vm, new context per task, in the client's process", "node", "isolated-vm", "isolated-vm", 3_000
        )
        one = 0.3 if window == 1 else 1
        rows = (
            ours(f"{OURS}, fresh", "fresh", self.count(6_000 * one), window),
            ours(f"{OURS}, frozen", "frozen", self.count(200_000 * one), window),
            ours(f"{OURS}, frozen, new code each time", "frozen-new", self.count(60_000 * one), window),
            ours(f"{OURS}, warm", "code-warm", self.count(200_000 * one), window),
            ours(f"{OURS}, warm, new code each time", "warm-new", self.count(60_000 * one), window),
            peer_row(vm, "fresh", self.count(2_800 * one), window),
            peer_row(isolated, "fresh", self.count(3_000 * one), window),
        )
        return Table("b", f"b-{window}", f"{window} in flight", LATENCY, rows, "p50Us" if window == 1 else "rate")

    def echo(self, size: int, name: str, window: int) -> Table:
        work = 300e6 / (size + 10_000)
        wanted = ("piscina (threads)", "workerpool (processes)", "tinypool (processes)", "child_process.fork", APPLY, PEBBLE)
        of_load, of_peer = readers.with_bytes(readers.of_load, size), readers.with_bytes(readers.of_peer, size)
        rows = [
            replace(floor(self.count(work * 8), window, "--size", size), read=of_load),
            replace(ours(OURS, "echo", self.count(work * 4), window, "--size", size), read=of_load),
        ]
        for peer in PEERS:
            if peer.system in wanted:
                tasks = self.count(min(work / 2, peer.rate / 2))
                rows.append(peer_row(peer, "echo", tasks, window, "--size", size, read=of_peer))
        columns = ("mbPerSecond", *LATENCY)
        return Table("c", f"c-{name.replace(' ', '')}", f"{name}, {window} in flight", columns, tuple(rows), "mbPerSecond")

    def burn(self) -> Table:
        tasks = self.count(400)
        peers = [peer_row(peer, "burn", tasks, 32) for peer in PEERS]
        rows = (ours(OURS, "burn", tasks, 32), *peers)
        return Table("d", "d", "32 in flight, two workers: 400 tasks a second are all there is", LATENCY, rows, "rate")

    def cold(self) -> Table:
        peers = [peer_row(peer, "cold", 1, 1, read=readers.peer_cold) for peer in PEERS]
        starts = ("cold", "--rounds", 3)
        rows = (
            load(OURS, *starts, read=readers.cold),
            load(f"{OURS}, first start ever", *starts, read=readers.cold_first),
            *peers,
        )
        return Table("e", "e", "from the program's start to the first result", ("coldMs",), rows, "coldMs")

    def starts(self) -> Table:
        rows = (load(OURS, "starts", "--rounds", self.count(40), read=readers.starts),)
        return Table("f", "f", "a worker's start", ("startMs",), rows)

    def recycled(self) -> Table:
        pebble = next(peer for peer in PEERS if peer.system == PEBBLE)
        rows = (
            ours(OURS, "warm", self.count(400_000), 512),
            ours(f"{OURS}, {RECYCLED}", "warm", self.count(400_000), 512, "--recycle", 100),
            python(IMAP, "pool-imap", "noop", self.count(50_000), 512),
            python(f"{IMAP}, {RECYCLED}", "pool-imap", "noop", self.count(30_000), 512, "--recycle", 100),
            peer_row(replace(pebble, system=f"{PEBBLE}, {RECYCLED}"), "noop", self.count(4_000), 512, "--recycle", 100),
        )
        return Table("g", "g-100", "no-op tasks, workers replaced after 100, 512 in flight", ("rate", "cpuUs"), rows, "rate")

    def recycled_burning(self) -> Table:
        tasks = self.count(600)
        rows = (
            ours(OURS, "burn", tasks, 32),
            ours(f"{OURS}, {RECYCLED}", "burn", tasks, 32, "--recycle", 100),
            python(IMAP, "pool-imap", "burn", tasks, 32),
            python(f"{IMAP}, {RECYCLED}", "pool-imap", "burn", tasks, 32, "--recycle", 100),
        )
        return Table("g", "g-100-burn", "tasks of 5 ms, workers replaced after 100, 32 in flight", ("rate", "cpuUs"), rows)

    def process_per_task(self) -> Table:
        named = {peer.name: peer for peer in PEERS}
        once = ("--recycle", 1)
        rows = (
            ours(OURS, "warm", self.count(500), 4, "--tenancy", "task"),
            python(f"{IMAP}, maxtasksperchild=1", "pool-imap", "noop", self.count(800), 4, *once),
            peer_row(named["process-pool-executor"], "noop", self.count(20), 4, *once),
            peer_row(named["pebble"], "noop", self.count(60), 4, *once),
            peer_row(named["fork"], "noop", self.count(40), 4, *once),
            peer_row(named["tinypool"], "noop", self.count(40), 4, *once),
        )
        return Table("g", "g-1", "a process for each task, 4 in flight", ("rate", "cpuUs"), rows, "rate")

    def spinners(self) -> Table:
        tasks = self.count(1_000)
        every = ("--spin-every", 20, "--timeout", 100)
        named = {peer.name: peer for peer in PEERS}
        rows = (
            load(OURS, "spinners", "--tasks", tasks, read=readers.spinners),
            *(peer_row(named[name], "noop", tasks, 512, *every) for name in ("pebble", "workerpool-thread", "fork")),
        )
        title = f"{tasks:,} tasks, one in 20 endless, timeout 100 ms"
        return Table("h", "h", title, ("seconds", "lost"), rows, "seconds")

    def queued(self) -> Table:
        tasks = self.count(1_000_000)
        columns = ("emptyRate", "fillRate", "fullRate", "bytesPerTask", "fewDrainRate", "manyDrainRate")
        rows = (load(OURS, "queued", "--tasks", tasks, read=readers.queued, timeout=180),)
        return Table("i", "i", f"{tasks:,} tasks waiting", columns, rows)

    def clients(self) -> Table:
        tasks = self.count(400_000)
        rows = (
            ours(f"{OURS}, 1 client", "warm", tasks, 1_000),
            ours(f"{OURS}, 1,000 clients", "warm", tasks, 1_000, "--clients", 1_000),
        )
        return Table("j", "j", "1,000 in flight over all clients", LATENCY, rows)

    def workers(self) -> Table:
        tasks = self.count(400_000)
        rows = tuple(
            ours(str(workers), "warm", tasks, 512, "--workers", workers, timeout=90)
            for workers in (1, 2, 4, 8, 16, 32, 64, 128, 256)
        )
        return Table("k", "k", f"{OURS} by number of workers, 512 in flight", (*LATENCY, "pssMb"), rows, "rate")

    def idle(self) -> Table:
        timeout = self.idle_seconds + 60
        row = load(OURS, "idle", "--seconds", self.idle_seconds, "--workers", 4, read=readers.idle, timeout=timeout)
        columns = ("idlePercent", "workerMb", "supervisorMb")
        return Table("l", "l", f"4 idle workers, watched for {self.idle_seconds} s", columns, (row,), once=True)

    def projects(self) -> Table:
        rows = tuple(
            ours(str(projects), "warm", self.count(tasks), 512, "--projects", projects, "--recycle", 100)
            for projects, tasks in ((1, 500_000), (50, 400_000), (200, 300_000), (1_000, 200_000))
        )
        title = f"{OURS} by number of projects in turn, 512 in flight, workers replaced as by default"
        return Table("n", "n", title, (*LATENCY, "pssMb"), rows, "rate")

    def programs(self) -> Table:
        def program(system: str, name: str, tasks: float, peer: str | None = None) -> Row:
            return Row(system, "programs", (name, str(self.count(tasks))), readers.of_peer, peer)

        rows = (
            ours(OURS, "shell", self.count(1_500), 32),
            program("subprocess.run in two threads (no pool)", "subprocess", 1_500),
            program("GNU parallel", "parallel", 600, "GNU parallel"),
            program("pueue", "pueue", 40, "pueue"),
        )
        return Table("m", "m", "`/usr/bin/true`, two at a time", ("rate", "cpuUs"), rows, "rate")


ECHOES = ((1_000, "1 KB", 128), (64_000, "64 KB", 16), (1_000_000, "1 MB", 2))
"""Bytes, name, and a window of at most 4 MB on their way."""

TITLES = {
    "a": "A no-op function: `({a, b}) => a + b`",
    "b": "`execute-code`, by realm",
    "c": "A text that goes in and comes back",
    "d": "5 ms of CPU",
    "e": "Cold start",
    "f": "A worker's start",
    "g": "Workers that are replaced",
    "h": "Endless tasks among good ones",
    "i": "A million tasks waiting",
    "j": "A thousand clients",
    "k": "From 1 to 256 workers",
    "l": "An idle pool",
    "m": "A program: `/usr/bin/true`",
    "n": "From 1 to 1,000 projects",
}
