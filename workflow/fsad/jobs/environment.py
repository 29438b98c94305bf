"""Where an environment may lie: Snakemake does not quote the interpreter's path.

The Makefile runs this file before anything is installed, so it imports no package.
"""

import os
import re
import sys

from fsad.errors import UserError

UNSAFE = re.compile(r"[^\w@%+=:,./~-]")  # of a path, in the command of a shell


def check_environment(interpreter: str = sys.executable) -> None:
    """Raise UserError if jobs cannot be started with an interpreter of this path."""
    found = UNSAFE.search(interpreter)
    if found is not None:
        raise UserError(
            f"{interpreter}: the path of the environment must hold no space or "
            f"bracket, here {found[0]!r}; move the checkout"
        )


if __name__ == "__main__":
    try:
        check_environment(os.path.abspath(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
