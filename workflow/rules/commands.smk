"""Former targets: commands of their own took their place."""

for COMMAND in ("status", "verify"):

    rule:
        name:
            COMMAND
        log:
            f"{TREE.logs}/{COMMAND}.log",
        conda:
            "../../envs/fsad.yaml"
        shell:
            f"echo 'error: use `fsad {COMMAND}`, with --configfile and --config as here'"
            " | tee {log} >&2; exit 1"
