"""The programs that measure: ours, built; the peers, installed from their registries into folders that git ignores."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from .plan import Row

PUEUE = "4.0.4"


class Tools:
    """Where each program is, which peers are missing and why, and everything's version."""

    def __init__(self, repository: Path, say: Callable[[str], None]) -> None:
        self.repository = repository
        self.say = say
        self.target = Path(os.environ.get("CARGO_TARGET_DIR") or repository / "target").resolve()
        self.peers = repository / "benches" / "peers"
        self.own = self.target / "peers"
        self.venv_python = self.peers / "python" / "venv" / "bin" / "python"
        self.missing: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def argv(self, row: Row) -> list[str]:
        """The command of a row, for the repository's folder."""
        python = str(self.venv_python) if self.venv_python.exists() else "python3"
        programs = {
            "load": [str(self.target / "release" / "load")],
            "node": ["node", "benches/peers/node/load.mjs"],
            "python": [python, "benches/peers/python/load.py"],
            "programs": [python, "benches/peers/python/programs.py"],
        }
        return [*programs[row.program], *row.arguments]

    def shown(self, row: Row) -> str:
        """The same as one types it."""
        shown = {"load": "load", "node": "node load.mjs", "python": "python load.py", "programs": "python programs.py"}
        return " ".join((shown[row.program], *row.arguments))

    def prepare(self) -> None:
        """Builds and installs; what cannot be installed is `missing`."""
        self.say("building")
        for command in (["scripts/build.sh"], ["scripts/cargo.sh", "build", "--release", "-p", "pool-bench"]):
            subprocess.run([*command, "--quiet"], cwd=self.repository, check=True)
        self.versions["rustc"] = self.output("rustc", "--version").removeprefix("rustc ")
        self.own.mkdir(parents=True, exist_ok=True)
        os.environ["PATH"] = f"{self.own / 'bin'}:{os.environ['PATH']}"
        self.node()
        self.python()
        self.parallel()
        self.pueue()

    def node(self) -> None:
        """npm's packages, in the versions of package.json."""
        folder = self.peers / "node"
        package = json.loads((folder / "package.json").read_text())
        wanted = {**package["dependencies"], **package["optionalDependencies"]}

        def installed(name: str) -> str | None:
            file = folder / "node_modules" / name / "package.json"
            return json.loads(file.read_text())["version"] if file.exists() else None

        said = ""
        if any(installed(name) != version for name, version in wanted.items()):
            self.say("installing the peers in Node")
            said = self.attempt("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", folder=folder)
        for name in wanted:
            self.note(name, installed(name), said or "npm did not install it")
        self.versions["Node"] = self.output("node", "--version")

    def python(self) -> None:
        """pip's packages, in a virtual environment; what draws the plots comes with them."""
        folder = self.peers / "python"
        files = [folder / "requirements.txt", self.repository / "benches" / "report" / "requirements.txt"]
        wanted = dict(line.split("==") for file in files for line in file.read_text().split())
        said = ""
        if any(self.pip_version(name) != version for name, version in wanted.items()):
            self.say("installing the peers in Python")
            said = self.attempt("python3", "-m", "venv", str(folder / "venv"))
            requirements = [argument for file in files for argument in ("-r", str(file))]
            said = said or self.attempt(str(self.venv_python), "-m", "pip", "install", "--quiet", *requirements)
        for name in wanted:
            self.note(name, self.pip_version(name), said or "pip did not install it")
        python = str(self.venv_python) if self.venv_python.exists() else "python3"
        self.versions["Python"] = self.output(python, "--version").removeprefix("Python ")

    def pip_version(self, name: str) -> str | None:
        """Of a package in the virtual environment."""
        ask = f"import importlib.metadata as m; print(m.version({name!r}))"
        return self.output(str(self.venv_python), "-c", ask) or None

    def parallel(self) -> None:
        """GNU parallel: Debian's package, unpacked beside the build, as nothing of the system need change."""
        said = ""
        if "GNU" not in self.output("parallel", "--version"):
            self.say("fetching GNU parallel")
            said = self.attempt("apt-get", "download", "parallel", folder=self.own)
            for package in self.own.glob("parallel_*.deb"):
                said = self.attempt("dpkg-deb", "--extract", str(package), str(self.own / "parallel"))
                package.unlink()
            program = self.own / "parallel" / "usr" / "bin" / "parallel"
            if program.exists():
                link = self.own / "bin" / "parallel"
                link.parent.mkdir(exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(program)
        line = self.output("parallel", "--version").split("\n")[0]
        self.note("GNU parallel", line.removeprefix("GNU parallel ") or None, said or "apt did not give it")

    def pueue(self) -> None:
        """pueue and its daemon, built by cargo."""
        said = ""
        if not shutil.which("pueued"):
            self.say("building pueue, which takes some minutes")
            install = ("cargo", "install", "pueue", "--version", PUEUE, "--locked", "--quiet", "--root", str(self.own))
            said = self.attempt(*install)
        version = self.output("pueue", "--version").removeprefix("pueue ")
        self.note("pueue", version or None, said or "cargo did not install it")

    def note(self, peer: str, version: str | None, reason: str) -> None:
        """Keeps a peer's version, or why there is none."""
        if version:
            self.versions[peer] = version
        else:
            self.missing[peer] = reason
            self.say(f"  {peer} is missing: {reason}")

    def attempt(self, *command: str, folder: Path | None = None) -> str:
        """Nothing when the command succeeds, else why not in a line."""
        # What cargo builds for others goes to a folder that it removes.
        environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode == 0:
            return ""
        return (done.stderr.strip() or f"{command[0]} ended with {done.returncode}").splitlines()[-1]

    def output(self, *command: str) -> str:
        """What a command prints; nothing when it fails."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=self.repository)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""
