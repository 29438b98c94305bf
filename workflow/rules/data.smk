"""Images, masks and words of each class, prepared once.

Digests of their contents, in the records among `params`, decide whether they are made
again, not file times. A job leaves files alone that are there as planned.
"""

PROMPTS = [*map(PLAN.prompts, PLAN.classes)]


rule prepare:
    input:
        lambda w: needed([], disk.unmade(PLAN.all_images(place(w)))),
    output:
        test=update([fill(TREE.test_images, view=name) for name in PLAN.view_names()]),
        support=update(of_seeds(TREE.support_images, view=PLAN.support_view_names())),
    log:
        f"{TREE.logs}/prepare/{{dataset}}/{{class_name}}.log",
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("prepare"),
    params:
        test=lambda w: PLAN.all_test_images(place(w)),
        support=lambda w: PLAN.all_support_images(place(w)),
        script=script_code("prepare"),
    script:
        "../scripts/prepare.py"


# Tiles of test images, or of the support images of a seed.
rule prepare_tiles:
    input:
        lambda w: needed(
            [], disk.unmade([PLAN.tiled_file(place(w), fill(TREE.tiles, **w))])
        ),
    output:
        update(TREE.tiles),
    log:
        f"{TREE.logs}/prepare_tiles/{{dataset}}/{{class_name}}/{{tiles}}.log",
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("prepare"),
    params:
        target=lambda w: PLAN.tiled_file(place(w), fill(TREE.tiles, **w)),
        script=script_code("prepare_tiles"),
    script:
        "../scripts/prepare_tiles.py"


rule prepare_masks:
    output:
        fill(TREE.masks, resolution=config["resolution"]),
    log:
        f"{TREE.logs}/prepare_masks/{{dataset}}/{{class_name}}.log",
    conda:
        "../../envs/fsad.yaml"
    threads: config["threads"]
    resources:
        **needs("prepare_masks"),
    params:
        masks=lambda w: PLAN.masks(place(w)),
        script=script_code("prepare_masks"),
    script:
        "../scripts/prepare_masks.py"


rule tokenize_prompts:
    input:
        lambda w: needed([], disk.unmade(PROMPTS)),
    output:
        update([path for path, _ in PROMPTS]),
    log:
        f"{TREE.logs}/tokenize_prompts.log",
    conda:
        "../../envs/fsad.yaml"
    resources:
        **needs("tokenize_prompts"),
    params:
        prompts=PROMPTS,
        script=script_code("tokenize_prompts"),
    script:
        "../scripts/tokenize_prompts.py"
