"""One measurement: load.py SYSTEM KIND TASKS WINDOW [--size N] [--recycle N] [--chunk N] [--spin-every N --timeout MS].

Prints one JSON line: {tasks, seconds, p50, p99, failed, lost, cpuSeconds, pss}; times in seconds and microseconds, memory in bytes.
`cpuSeconds` and `pss` are of all processes. `cold` is timed from SPAWNED_NS, nanoseconds since 1970.
"""

import argparse
import json
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from usage import cpu_seconds, proportional_bytes
from work import KINDS

WORKERS = 2
EXPECTED = {"noop": 42, "burn": 5}


class Executor:
    """Anything with `submit` that gives a future: concurrent.futures, loky, pebble."""

    def __init__(self, name, recycle):
        self.timeouts = False
        self.loky = name == "loky"
        if name == "process-pool-executor":
            # Only workers that are not forked can be replaced (CPython's own rule).
            context = get_context("spawn" if recycle else "fork")
            self.pool = ProcessPoolExecutor(WORKERS, mp_context=context, max_tasks_per_child=recycle or None)
        elif name == "loky":
            from loky import get_reusable_executor

            if recycle:
                raise SystemExit("loky does not replace its workers after a number of tasks")
            self.pool = get_reusable_executor(max_workers=WORKERS, timeout=None)
        else:
            from pebble import ProcessPool

            self.pool = ProcessPool(max_workers=WORKERS, max_tasks=recycle)
            self.timeouts = True

    def submit(self, kind, argument, timeout, done):
        if self.timeouts:
            future = self.pool.schedule(KINDS[kind], args=[argument], timeout=timeout / 1000 if timeout else None)
        else:
            future = self.pool.submit(KINDS[kind], argument)
        future.add_done_callback(lambda f: done(f.exception() is None))

    def close(self):
        if self.timeouts:
            self.pool.stop()
            self.pool.join()
        elif self.loky:
            self.pool.shutdown(wait=True, kill_workers=True)
        else:
            self.pool.shutdown(wait=True, cancel_futures=True)


class MultiprocessingPool:
    """multiprocessing.Pool with `apply_async`; its `imap` is measured by `imap` below."""

    def __init__(self, recycle):
        self.pool = get_context("fork").Pool(WORKERS, maxtasksperchild=recycle or None)

    def submit(self, kind, argument, _timeout, done):
        self.pool.apply_async(KINDS[kind], (argument,), callback=lambda _: done(True), error_callback=lambda _: done(False))

    def close(self):
        self.pool.terminate()
        self.pool.join()


def closed_loop(system, arguments, count, window, spin_every=0, timeout=0):
    """Keeps `window` tasks in flight; each answer is followed by the next task."""
    room = threading.Semaphore(window)
    all_done = threading.Event()
    latencies = [0.0] * count
    figures = {"failed": 0, "lost": 0, "ended": 0}
    lock = threading.Lock()

    def done_with(at, began, spins):
        def done(succeeded):
            latencies[at] = time.perf_counter() - began
            room.release()
            with lock:
                figures["ended"] += 1
                if not succeeded:
                    figures["failed" if spins else "lost"] += 1
                if figures["ended"] == count:
                    all_done.set()

        return done

    kind, argument = arguments
    cpu, start = cpu_seconds(), time.perf_counter()
    for at in range(count):
        room.acquire()
        spins = spin_every > 0 and at % spin_every == spin_every - 1
        began = time.perf_counter()
        system.submit("spin" if spins else kind, argument, timeout, done_with(at, began, spins))
    all_done.wait()
    seconds = time.perf_counter() - start
    if figures["lost"] and not spin_every:
        raise SystemExit(f"{figures['lost']} tasks failed")
    return summary(count, seconds, latencies, figures, cpu)


def summary(count, seconds, latencies, figures, cpu_before):
    ordered = sorted(latencies)

    def at(share):
        return ordered[min(count - 1, int(count * share))] * 1e6

    known = bool(ordered) and ordered[-1] > 0
    return {
        "tasks": count,
        "seconds": seconds,
        "p50": at(0.5) if known else None,
        "p99": at(0.99) if known else None,
        "failed": figures["failed"],
        "lost": figures["lost"],
        "cpuSeconds": cpu_seconds() - cpu_before,
        "pss": proportional_bytes(),
    }


def imap(kind, argument, count, recycle, chunk):
    """The fastest that multiprocessing.Pool has: the order of results does not matter, single tasks are not seen."""
    with get_context("fork").Pool(WORKERS, maxtasksperchild=recycle or None) as pool:
        run = KINDS[kind]

        def round_of(tasks):
            for result in pool.imap_unordered(run, (argument for _ in range(tasks)), chunk):
                if result != EXPECTED[kind]:
                    raise SystemExit(f"{kind} gave {result}")

        if not recycle:
            round_of(count // 10)
        cpu, start = cpu_seconds(), time.perf_counter()
        round_of(count)
        seconds = time.perf_counter() - start
        return summary(count, seconds, [0.0] * count, {"failed": 0, "lost": 0}, cpu)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("system")
    parser.add_argument("kind")
    parser.add_argument("tasks", type=int)
    parser.add_argument("window", type=int)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--recycle", type=int, default=0)
    parser.add_argument("--chunk", type=int, default=1)
    parser.add_argument("--spin-every", type=int, default=0)
    parser.add_argument("--timeout", type=int, default=0)
    args = parser.parse_args()
    argument = {"noop": {"a": 40, "b": 2}, "echo": "x" * args.size, "burn": 5, "cold": {"a": 40, "b": 2}}[args.kind]
    if args.system == "pool-imap":
        print(json.dumps(imap(args.kind, argument, args.tasks, args.recycle, args.chunk)))
        return
    if args.system == "multiprocessing-pool":
        system = MultiprocessingPool(args.recycle)
    else:
        system = Executor(args.system, args.recycle)
    if args.kind == "cold":
        result = closed_loop(system, ("noop", argument), 1, 1)
        result["seconds"] = (time.time_ns() - int(os.environ["SPAWNED_NS"])) / 1e9
    else:
        if not args.spin_every and not args.recycle:
            closed_loop(system, (args.kind, argument), max(1, args.tasks // 10), args.window)
        result = closed_loop(system, (args.kind, argument), args.tasks, args.window, args.spin_every, args.timeout)
    print(json.dumps(result), flush=True)
    system.close()


if __name__ == "__main__":
    main()
