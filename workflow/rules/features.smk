"""Frozen backbones, and the features of images that they give, computed once."""

# Names of the configuration by folder, and the folders of those with a text tower.
BACKBONES = {folder: name for name, folder in PLAN.backbones.items()}
READING = [f for f, name in BACKBONES.items() if "text" in PLAN.towers(name)]


rule backbone:
    output:
        vision=TREE.vision,
        text=TREE.text,
    log:
        f"{TREE.logs}/backbone/{{backbone}}.log",
    wildcard_constraints:
        backbone=any_of(READING),
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("backbone"),
    params:
        name=lambda w: BACKBONES[w.backbone],
        towers=lambda w: PLAN.towers(BACKBONES[w.backbone]),
        script=script_code("backbone"),
    script:
        "../scripts/backbone.py"


# Backbones that see alone.
use rule backbone as backbone_vision with:
    output:
        vision=TREE.vision,
    wildcard_constraints:
        backbone=any_of(BACKBONES.keys() - READING),


rule embed:
    input:
        embedded_files,
    output:
        test=update(TREE.test_features),
        support=update(of_seeds(TREE.support_features)),
    log:
        f"{TREE.logs}/embed/{{backbone}}/{{readout}}/{{dataset}}/{{class_name}}.log",
    benchmark:
        f"{TREE.benchmarks}/embed/{{backbone}}/{{readout}}/{{dataset}}/{{class_name}}.tsv"
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("embed"),
    params:
        tower=lambda w: PLAN.vision(reader(w)),
        work=embeddings,
        script=script_code("embed"),
    script:
        "../scripts/embed.py"
