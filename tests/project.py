"""A micro configuration of the real Snakefile in a folder of its own."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

import forked
from helpers import REPOSITORY, TINY, write_class

CLASSES = ("bolt", "metal_nut")
BENCHMARK = {
    "mvtec": (
        "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile "
        "toothbrush transistor wood zipper"
    ),
    "visa": (
        "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 "
        "pcb4 pipe_fryum"
    ),
}


class Project:
    """A working directory with data, configuration and results of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = folder / "config.yaml"
        self.launcher = []
        self.environment = {"HF_HUB_OFFLINE": "1"}
        self.repository = REPOSITORY

    def write(self) -> "Project":
        """Write data and configuration."""
        for name in CLASSES:
            write_class(self.folder / "data", name)
        (self.folder / "tiny.json").write_text(json.dumps(TINY))
        self.configure()
        return self

    def configure(self, **changes) -> None:
        """Write the micro configuration, with top-level changes."""
        micro = {
            "datasets": {"own": {"layout": "folder", "root": "data"}},
            "backbones": {"tiny": {"model": "tiny.json", "pretrained": "random"}},
            "shots": [1, 2],
            "epochs": 4,
            "eval_every": 3,
            "resolution": 32,
            "threads": 1,
            "runs_per_job": "all",
        }
        self.config.write_text(yaml.safe_dump(micro | changes))

    def snakemake(self, *arguments, check=True) -> subprocess.CompletedProcess:
        """Run the repository's Snakefile here."""
        words = ["--cores", "2", *arguments]
        if self.launcher or "PYTHONPATH" in self.environment:  # more than is imported
            return self.run(self.command(*words), check)
        words = [*self.placed(), *words]
        return self.fork("snakemake.cli", words, check)

    def placed(self) -> list:
        """Options that name Snakefile, folder and configuration."""
        named = ["--snakefile", self.repository / "Snakefile"]
        return [*named, "--directory", self.folder, "--configfile", self.config]

    def command(self, *arguments) -> list:
        """A command that runs the repository's Snakefile here."""
        command = [*self.launcher, sys.executable, "-m", "snakemake"]
        return [*command, *self.placed(), *arguments]

    def fsad(self, *arguments, check=True) -> subprocess.CompletedProcess:
        """Run the command line here."""
        if self.launcher or self.repository != REPOSITORY:
            command = [sys.executable, "-m", "fsad.cli", *arguments]
            return self.run(command, check)
        return self.fork("fsad.cli", arguments, check)

    def run(self, command, check=True) -> subprocess.CompletedProcess:
        """Run a command here."""
        run = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=self.variables(),
        )
        assert not check or run.returncode == 0, run.stdout + run.stderr
        return run

    def fork(self, module, arguments, check=True) -> subprocess.CompletedProcess:
        """Run the command line of a module here, without the time to import others."""
        run = forked.run(module, self.folder, arguments, self.variables())
        assert not check or run.returncode == 0, run.stdout + run.stderr
        return run

    def variables(self) -> dict[str, str]:
        """The environment of commands: this repository's library comes first."""
        environment = os.environ | self.environment
        paths = str(self.repository / "workflow"), environment["PYTHONPATH"]
        return environment | {"PYTHONPATH": os.pathsep.join(paths)}

    def planned(self, *arguments) -> dict[str, int]:
        """Jobs by rule of a dry run."""
        run = self.snakemake("--dry-run", *arguments)
        _, _, statistics = run.stdout.partition("Job stats:")
        table, _, _ = statistics.strip().partition("\n\n")
        words = [line.split() for line in table.splitlines()]
        return {w[0]: int(w[1]) for w in words if len(w) == 2 and w[1].isdigit()}

    def planned_by_class(self, *arguments) -> dict[tuple[str, str | None], int]:
        """Jobs of a dry run by rule and class."""
        run = self.snakemake("--dry-run", *arguments)
        block = r"^ *(?:local)?rule (\w+):\n((?: +\w+: .*\n)*)"
        blocks = re.findall(block, run.stdout, re.MULTILINE)
        found = ((rule, re.search(r"class_name=(\w+)", body)) for rule, body in blocks)
        return Counter((rule, match and match[1]) for rule, match in found)

    def tables(self) -> dict[str, bytes]:
        """Every file of the tables, by name."""
        folder = self.folder / "results/tables"
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
