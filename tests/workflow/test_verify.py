"""The self-test, of the micro configuration."""

import re
import subprocess
import sys

from helpers import REPOSITORY

ROW = re.compile(r"^\| (.+) \| (.+) \| (PASS|FAIL) \|$", re.MULTILINE)
# Of a class this small, start-up takes most of the time.
MEASURED = r"faster|saves CPU time|.* at most \d.\d cores|.* less than .*"


def test_checklist(project):
    project.configure(shots=[2], epochs=7, resolution=256)
    run = project.snakemake("verify", check=False)
    page = (project.folder / "results/verify/checklist.md").read_text()
    kept = {promise: verdict == "PASS" for promise, _, verdict in ROW.findall(page)}
    assert len(kept) == 14
    counted = {p: k for p, k in kept.items() if not re.fullmatch(MEASURED, p)}
    assert all(counted.values()), page
    assert "evaluated after epochs 3, 6, 7 alone" in counted
    assert sum("AUROC within" in promise for promise in counted) == 2
    broken = f"checklist.md: promises not kept here: {list(kept.values()).count(False)}"
    assert (run.returncode == 0) == all(kept.values())
    assert (broken in run.stdout + run.stderr) != all(kept.values())


def test_the_demo_is_verified_by_default():
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "verify"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "rule verify:" in run.stdout
