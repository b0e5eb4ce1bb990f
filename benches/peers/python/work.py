"""What the peers' workers run: the same work as the pool's tasks."""

import time


def noop(task):
    return task["a"] + task["b"]


def echo(text):
    return text


def burn(ms):
    until = time.perf_counter() + ms / 1000
    while time.perf_counter() < until:
        pass
    return ms


def spin(_):
    while True:
        pass


KINDS = {"noop": noop, "echo": echo, "burn": burn, "spin": spin}
