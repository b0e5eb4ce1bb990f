"""What the programs print, made into figures of one round. Each reader takes the JSON object of a program's last line."""

Figures = dict[str, float | None]


def of_load(printed: dict) -> Figures:
    """`load tasks` and `load floor`: one round."""
    figures = printed["median"]
    latency = figures.get("latencyUs") or {}
    read: Figures = {
        "rate": figures["rate"],
        "p50Us": latency.get("p50"),
        "p99Us": latency.get("p99"),
        "cpuUs": sum(figures["cpu"].values()) * 1e6 / figures["tasks"],
    }
    memory = printed.get("memory", {})
    if "supervisorPss" in memory:
        read["pssMb"] = (memory["supervisorPss"] + sum(memory["workersPss"])) / 1e6
    return read


def of_peer(printed: dict) -> Figures:
    """The peers' scripts."""
    return {
        "rate": printed["tasks"] / printed["seconds"],
        "seconds": printed["seconds"],
        "p50Us": printed["p50"],
        "p99Us": printed["p99"],
        "cpuUs": printed["cpuSeconds"] * 1e6 / printed["tasks"],
        "pssMb": printed["pss"] / 1e6,
        "lost": printed["lost"],
    }


def with_bytes(read, size: int):
    """Bytes of a text of this size, there and back."""

    def reader(printed: dict) -> Figures:
        figures = read(printed)
        return {**figures, "mbPerSecond": figures["rate"] * 2 * size / 1e6}

    return reader


def peer_cold(printed: dict) -> Figures:
    """The peers' scripts, from the spawn to the first result."""
    return {"coldMs": printed["seconds"] * 1000}


def spinners(printed: dict) -> Figures:
    """`load spinners`, which fails when a task ends otherwise than it must: none is lost."""
    return {"seconds": printed["spinners"]["seconds"], "lost": 0}


def cold(printed: dict) -> Figures:
    """`load cold`: a start like the second and all later ones."""
    return {"coldMs": printed["medianMs"]}


def cold_first(printed: dict) -> Figures:
    """`load cold`: the start with nothing cached."""
    return {"coldMs": printed["firstMs"]}


def starts(printed: dict) -> Figures:
    """`load starts`."""
    return {"startMs": printed["medianMs"]}


def queued(printed: dict) -> Figures:
    """`load queued`."""
    names = ("emptyRate", "fillRate", "fullRate", "bytesPerTask", "fewDrainRate", "manyDrainRate")
    return {name: printed[name] for name in names}


def idle(printed: dict) -> Figures:
    """`load idle`."""
    workers = printed["memory"]["workersPss"]
    return {
        "idlePercent": printed["totalPercent"],
        "workerMb": sum(workers) / len(workers) / 1e6,
        "supervisorMb": printed["memory"]["supervisorPss"] / 1e6,
    }
