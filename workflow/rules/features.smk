"""Frozen backbones, and the features of images that they give, computed once."""


rule backbone:
    output:
        vision=fill(TREE.vision, **FEATURES),
        text=fill(TREE.text, **FEATURES),
    log:
        f"{TREE.logs}/backbone/{PLAN.backbone}.log",
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("backbone"),
    params:
        vision=PLAN.tower("vision"),
        text=PLAN.tower("text"),
        script=script_code("backbone"),
    script:
        "../scripts/backbone.py"


def embeddings(wildcards):
    return PLAN.embeddings(PLAN.reader(wildcards.readout), place(wildcards))


def embedded_files(wildcards):
    """Cached images, and the tower that they pass."""
    images = [work.images.path for work in embeddings(wildcards)]
    is_made = PLAN.has_features(PLAN.reader(wildcards.readout), place(wildcards))
    return needed([PLAN.tower("vision").path, *images], is_made)


rule embed:
    input:
        embedded_files,
    output:
        test=update(fill(TREE.test_features, **FEATURES)),
        support=update(
            [
                fill(TREE.support_features, seed=seed, **FEATURES)
                for seed in config["seeds"]
            ]
        ),
    log:
        f"{TREE.logs}/embed/{{readout}}/{{dataset}}/{{class_name}}.log",
    benchmark:
        f"{TREE.benchmarks}/embed/{{readout}}/{{dataset}}/{{class_name}}.tsv"
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("embed"),
        gpu=GPU,
    params:
        tower=PLAN.tower("vision"),
        work=embeddings,
        script=script_code("embed"),
    script:
        "../scripts/embed.py"
