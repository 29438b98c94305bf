"""The jobs that a call of Snakemake would run, asked of Snakemake itself."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fsad.errors import UserError

ASKED = Path("workflow/snakemake_internals.py")  # beside the Snakefile


def graph_of_call(
    snakefile: Path, configfiles: Sequence[str], config: Sequence[str]
) -> tuple[list[dict], dict]:
    """The jobs of a call, with `rule`, `outputs` and `log`, and its configuration.

    config: OPTION=VALUE, as for --config. Raises UserError where Snakemake cannot plan.
    """
    script = Path(snakefile).parent / ASKED
    if not script.is_file():
        raise UserError(
            f"--snakefile: {snakefile} is not the Snakefile of this pipeline; call "
            "fsad from its folder, or name it"
        )
    question = {
        "snakefile": str(snakefile),
        "configfiles": [*configfiles],
        "config": [*config],
    }
    answer = subprocess.run(
        [sys.executable, script],
        input=json.dumps(question),
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0:
        raise UserError(_reason(answer.stderr))
    found = json.loads(answer.stdout)
    return found["jobs"], found["config"]


def _reason(output: str) -> str:
    """The last line of the output of a call that failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "Snakemake ended without a message"
