"""One measurement of what runs programs: programs.py SYSTEM TASKS, each task `/usr/bin/true`, two at a time.

Prints the same JSON line as load.py. Single tasks are not seen.
"""

import argparse
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from load import WORKERS, summary
from usage import cpu_seconds

TRUE = "/usr/bin/true"


def by_subprocess(tasks):
    """No pool: two threads that start one program after the other."""

    def lane(count):
        for _ in range(count):
            subprocess.run([TRUE], check=True)

    lanes = [threading.Thread(target=lane, args=(tasks // WORKERS + (at < tasks % WORKERS),)) for at in range(WORKERS)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()


def by_parallel(tasks):
    """GNU parallel; the numbers are its input and no arguments."""
    numbers = "\n".join(map(str, range(tasks)))
    subprocess.run(["parallel", "-N0", f"-j{WORKERS}", TRUE], input=numbers, text=True, check=True)


class Pueue:
    """pueue's daemon with folders of its own."""

    def __init__(self, folder):
        self.config = folder / "pueue.yml"
        places = {"pueue_directory": str(folder), "runtime_directory": str(folder), "use_unix_socket": True}
        self.config.write_text(json.dumps({"shared": places, "client": {}, "daemon": {}}))
        self.daemon = subprocess.Popen(["pueued", "--config", self.config], stdout=subprocess.DEVNULL)
        while subprocess.run(self.command("status"), capture_output=True, check=False).returncode:
            if self.daemon.poll() is not None:
                raise SystemExit(f"pueued ended with {self.daemon.returncode}")
            time.sleep(0.05)
        subprocess.run(self.command("parallel", str(WORKERS)), stdout=subprocess.DEVNULL, check=True)

    def command(self, *arguments):
        return ["pueue", "--config", self.config, *arguments]

    def run(self, tasks):
        """Its command line adds one task at a time; `wait` returns when all have ended."""
        for _ in range(tasks):
            subprocess.run(self.command("add", "--", TRUE), stdout=subprocess.DEVNULL, check=True)
        subprocess.run(self.command("wait", "--quiet"), check=True)
        status = json.loads(subprocess.run(self.command("status", "--json"), capture_output=True, check=True).stdout)
        results = [task["status"]["Done"]["result"] for task in status["tasks"].values()]
        if results != ["Success"] * tasks:
            raise SystemExit(f"{results} are not {tasks} successes")

    def close(self):
        subprocess.run(self.command("shutdown"), stdout=subprocess.DEVNULL, check=True)
        self.daemon.wait()


def measured(run, tasks):
    """Figures of a run."""
    cpu, start = cpu_seconds(), time.perf_counter()
    run(tasks)
    seconds = time.perf_counter() - start
    return summary(tasks, seconds, [0.0] * tasks, {"failed": 0, "lost": 0}, cpu)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("system", choices=["subprocess", "parallel", "pueue"])
    parser.add_argument("tasks", type=int)
    args = parser.parse_args()
    if args.system == "pueue":
        with tempfile.TemporaryDirectory() as folder:
            pueue = Pueue(Path(folder))
            print(json.dumps(measured(pueue.run, args.tasks)), flush=True)
            pueue.close()
    else:
        run = by_parallel if args.system == "parallel" else by_subprocess
        print(json.dumps(measured(run, args.tasks)), flush=True)


if __name__ == "__main__":
    main()
