"""Former targets: commands of their own took their place."""


rule status:
    log:
        f"{TREE.logs}/status.log",
    conda:
        "../../envs/fsad.yaml"
    shell:
        "echo 'error: use `fsad status`, with --configfile and --config as here'"
        " | tee {log} >&2; exit 1"


rule verify:
    log:
        f"{TREE.logs}/verify.log",
    conda:
        "../../envs/fsad.yaml"
    shell:
        "echo 'error: use `fsad verify`, with --configfile and --config as here'"
        " | tee {log} >&2; exit 1"
