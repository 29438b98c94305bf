"""Wrong configurations: changes of a right one, and what the error must name."""

MICRO = {"layout": "folder", "root": "data"}


def datasets(**changes):
    return {"datasets": {"own": MICRO | changes}}


def backbone(**changes):
    tiny = {"model": "tiny.json", "pretrained": "random"}
    return {"backbones": {"tiny": tiny | changes}}


def experiment(**changes):
    return {"experiments": {"mine": {"variant": "original"} | changes}}


def free(method, **options):
    """An experiment of a method without training."""
    return {"experiments": {"mine": {"method": method, **options}}}


def override(**changes):
    return {"overrides": {"own": {"bolt": changes}}}


def prediction(**changes):
    run = {"run": "original/own/bolt/k1/s111/cls", "images": "data/bolt/test"}
    return {"predict": {"new": run | changes}}


WORDS = {"text": 5, "list": ["x"], "mapping": {"a": 1}, "null": None}
COUNTS = {
    "zero": 0,
    "negative": -3,
    "fraction": 1.5,
    "word": "many",
    "true": True,
    "nan": float("nan"),
    "infinite": float("inf"),
    "list": [1],
    "null": None,
}
COUNTS_FROM_0 = {name: value for name, value in COUNTS.items() if name != "zero"}
NUMBERS = {
    "negative": -0.5,
    "word": "much",
    "true": True,
    "nan": float("nan"),
    "infinite": float("inf"),
    "list": [0.1],
    "null": None,
}
LISTS = {"empty": [], "mapping": {"a": 1}, "null": None, "nested": [[1]], "word": "x"}

# Names that would leave results/, or that a shell or Snakemake would read otherwise.
EVIL = {
    "parent": "../../outside",
    "dots": "..",
    "hidden": ".hidden",
    "absolute": "/tmp/outside",
    "shell": "$(touch ran)",
    "backticks": "`touch ran`",
    "semicolon": "a;touch ran",
    "pipe": "a|touch ran",
    "braces": "{dataset}",
    "empty": "",
    "newline": "a\ntouch ran",
    "ends in a newline": "bolt\n",
    "null byte": "a\0b",
}

# option: (its configuration with a value, wrong values)
OPTIONS = {
    "results": (
        lambda v: {"results": v},
        WORDS | {"empty": "", "braces": "a{x}", "null byte": "a\0b", "newline": "a\nb"},
    ),
    "device": (
        lambda v: {"device": v},
        WORDS | {"gpu": "gpu", "upper case": "CPU", "negative": "cuda:-1"},
    ),
    "threads": (lambda v: {"threads": v}, COUNTS | {"too many": 10**6}),
    "precision": (lambda v: {"precision": v}, WORDS | {"half": "float16"}),
    "runs_per_job": (
        lambda v: {"runs_per_job": v},
        WORDS | {"unknown": "both", "upper case": "ONE", "true": True, "two": [1, 1]},
    ),
    "gpus": (
        lambda v: {"gpus": v},
        {"word": "all", "negative": [-1], "twice": [0, 0], "on a CPU": [0]},
    ),
    "jobs_per_gpu": (lambda v: {"jobs_per_gpu": v}, COUNTS),
    "monitor": (lambda v: {"monitor": v}, {"word": "maybe", "number": 2, "null": None}),
    "epochs": (lambda v: {"epochs": v}, COUNTS),
    "eval_every": (lambda v: {"eval_every": v}, COUNTS),
    "resolution": (
        lambda v: {"resolution": v},
        COUNTS | {"too low": 15, "too high": 10**6},
    ),
    "max_megapixels": (lambda v: {"max_megapixels": v}, COUNTS),
    "vis": (lambda v: {"vis": v}, {"word": "maybe", "number": 2, "null": None}),
    "tasks": (
        lambda v: {"tasks": v},
        LISTS | {"unknown": ["det"], "twice": ["cls", "cls"]},
    ),
    "shots": (
        lambda v: {"shots": v},
        LISTS | {"zero": [0], "negative": [-1], "fraction": [1.5], "twice": [1, 1]},
    ),
    "seeds": (
        lambda v: {"seeds": v},
        LISTS | {"negative": [-1], "fraction": [0.5], "too high": [2**70]},
    ),
    "states": (
        lambda v: {"states": v},
        {
            "no place": ["broken"],
            "two places": ["{} {}"],
            "field": ["{0}"],
            "attribute": ["{0.__class__}"],
            "half": ["{"],
            "number": [1],
            "null": None,
        },
    ),
    "datasets": (lambda v: {"datasets": v}, {"empty": {}, "list": [1], "word": "x"}),
    "layout": (lambda v: datasets(layout=v), WORDS | {"unknown": "coco"}),
    "root": (
        lambda v: datasets(root=v),
        WORDS | {"empty": "", "missing": "nowhere", "file": "tiny.json"},
    ),
    "classes": (
        lambda v: datasets(classes=v),
        {"empty": [], "word": "bolt", "twice": ["bolt", "bolt"], "missing": ["nut"]},
    ),
    "prompts": (
        lambda v: datasets(prompts=v),
        WORDS
        | {
            "missing": "no.yaml",
            "folder": "data",
            "image": "a.png",
            "unknown name": "mvtek",
            "upper case": "MVTEC",
            "shipped name as a path": "./mvtec",
            "parent": "../prompts/mvtec",
        },
    ),
    "keep_features": (
        lambda v: {"keep_features": v},
        {"word": "never", "number": 1, "null": None, "list": [True]},
    ),
    "backbones": (
        lambda v: {"backbones": v},
        {"word": "x", "list": [1], "empty": {}, "null": None},
    ),
    "backbone": (
        lambda v: experiment(backbone=v),
        WORDS | {"unknown": "other", "empty": "", "upper case": "TINY"},
    ),
    "library": (
        lambda v: backbone(library=v),
        WORDS | {"unknown": "torchvision", "upper case": "TIMM"},
    ),
    "image_size": (
        lambda v: backbone(image_size=v),
        COUNTS | {"too low": 15, "too high": 10**6},
    ),
    "model": (
        lambda v: backbone(model=v),
        WORDS
        | {
            "unknown": "ViT-B-61",
            "missing": "no.json",
            "parent": "../../etc/passwd",
            "hub": "hf-hub:someone/something",
            "folder": "local-dir:data",
            "no ViT": "RN50",
        },
    ),
    "pretrained": (
        lambda v: backbone(pretrained=v),
        WORDS | {"missing": "weights/none.pt", "empty": ""},
    ),
    "random_seed": (
        lambda v: backbone(random_seed=v),
        {"negative": -1, "word": "x", "too high": 2**70, "null": None},
    ),
    "experiments": (
        lambda v: {"experiments": v},
        {"empty": {}, "list": ["original"], "null": None},
    ),
    "method": (
        lambda v: experiment(method=v),
        WORDS
        | {
            "unknown": "padim",
            "empty": "",
            "upper case": "PromptAD",
            "module": "fsad.methods.promptad",
            "parent": "../methods/promptad",
        },
    ),
    "variant": (
        lambda v: experiment(variant=v),
        {
            "unknown": "qq",
            "number": 3,
            "null": None,
            "half": {"path": "dual"},
            "wrong field": {
                "path": "both",
                "attention": "vv",
                "ffn": False,
                "residual": True,
            },
        },
    ),
    "fit": (
        lambda v: experiment(fit=v),
        WORDS | {"unknown": "crop", "upper case": "Edge"},
    ),
    "tiles": (
        lambda v: experiment(tiles=v),
        WORDS
        | {
            "unknown": "many",
            "empty": {},
            "both": {"grid": [2, 2], "size": 20},
            "one number": {"grid": [2]},
            "zero": {"grid": [0, 2]},
            "small": {"size": 8},
            "overlap alone": {"overlap": 0.1},
            "wide overlap": {"grid": [2, 2], "overlap": 0.95},
        },
    ),
    "max_tiles": (lambda v: experiment(max_tiles=v), COUNTS | {"one": 1}),
    "position": (lambda v: experiment(position=v), WORDS | {"unknown": "here"}),
    "whole": (lambda v: experiment(whole=v), {"word": "maybe", "null": None}),
    "roi": (
        lambda v: override(roi=v),
        {"number": 5, "empty": "", "missing": "roi.png", "folder": "empty"},
    ),
    "layers": (
        lambda v: free("patchcore", layers=v),
        {"word": "layer2", "empty": [], "fraction": [1.5], "twice": ["a", "a"]},
    ),
    "layer_width": (lambda v: free("patchcore", layer_width=v), COUNTS),
    "patch_width": (lambda v: free("patchcore", patch_width=v), COUNTS),
    "coreset": (
        lambda v: free("patchcore", coreset=v),
        {**NUMBERS, "zero": 0, "above one": 1.5},
    ),
    "neighbours": (lambda v: free("patchcore", neighbours=v), COUNTS),
    "rotations": (lambda v: free("anomalydino", rotations=v), COUNTS),
    "mask": (
        lambda v: free("anomalydino", mask=v),
        WORDS | {"unknown": "all", "true": True},
    ),
    "blocks": (
        lambda v: free("subspacead", blocks=v),
        {"word": "last", "empty": [], "negative": [-1], "names": ["blocks.1"]},
    ),
    "explained_variance": (
        lambda v: free("subspacead", explained_variance=v),
        {**NUMBERS, "zero": 0, "above one": 1.5},
    ),
    "scales": (
        lambda v: free("winclip", scales=v),
        {"number": 2, "empty": [], "one": [1], "fraction": [2.5], "twice": [2, 2]},
    ),
    "patch_norm": (
        lambda v: free("winclip", patch_norm=v),
        {"word": "maybe", "null": None},
    ),
    "state_words": (
        lambda v: free("winclip", state_words=v),
        WORDS | {"unknown": "mine", "list": ["bent {}"]},
    ),
    "lr": (lambda v: {"training": {"lr": v}}, NUMBERS | {"zero": 0}),
    "momentum": (lambda v: {"training": {"momentum": v}}, NUMBERS | {"one": 1}),
    "weight_decay": (lambda v: {"training": {"weight_decay": v}}, NUMBERS),
    "min_lr": (lambda v: {"training": {"min_lr": v}}, NUMBERS),
    "match_weight": (lambda v: {"training": {"match_weight": v}}, NUMBERS),
    "temperature": (lambda v: {"training": {"temperature": v}}, WORDS | {"one": "1"}),
    "n_ctx": (lambda v: {"training": {"n_ctx": v}}, COUNTS),
    "n_ctx_ab": (lambda v: {"training": {"n_ctx_ab": v}}, COUNTS),
    "n_pro": (lambda v: {"training": {"n_pro": v}}, {"number": 3, "list": [1]}),
    "n_pro.seg": (lambda v: {"training": {"n_pro": {"seg": v}}}, COUNTS),
    "n_pro_ab": (lambda v: {"training": {"n_pro_ab": v}}, COUNTS),
    "decimals": (lambda v: {"tables": {"decimals": v}}, COUNTS_FROM_0 | {"many": 7}),
    "bold": (lambda v: {"tables": {"bold": v}}, {"word": "maybe", "null": None}),
    "run": (
        lambda v: prediction(run=v),
        WORDS | {"empty": "", "missing": "original/own/bolt/k9/s111/cls", "up": ".."},
    ),
    "images": (lambda v: prediction(images=v), WORDS | {"empty": "", "none": "empty"}),
    "overrides": (
        lambda v: {"overrides": v},
        {"list": [1], "no data set": {"other": {}}, "no class": {"own": {"nut": {}}}},
    ),
    "text": (lambda v: override(text=v), {"empty": "", "number": 1, "list": ["x"]}),
    "support": (
        lambda v: override(support=v),
        {
            "missing": ["9.png"],
            "parent": ["../../test/good/000.png"],
            "empty": [],
            "word": "000.png",
            "twice": ["000.png", "000.png"],
        },
    ),
}

UNKNOWN = {
    "top": ({"epoch": 3}, "epoch"),
    "data set": (datasets(rood="x"), "rood"),
    "backbone": (backbone(tag="x"), "tag"),
    "experiment": (experiment(lr=1), "lr"),
    "training": ({"training": {"lrate": 1}}, "lrate"),
    "override": (override(shots=[1]), "shots"),
    "tables": ({"tables": {"digits": 2}}, "digits"),
    "prediction": (prediction(device="cpu"), "device"),
    "another method": (free("patchcore", variant="original"), "variant"),
    "0.1": ({"train_together": True}, "train_together"),
    "0.2": ({"backbone": {"model": "tiny.json"}}, "backbones:"),
}

# What is no configuration at all; Snakemake's own words for it.
TEXTS = {
    "empty file": "",
    "a list": "- 1\n- 2\n",
    "a word": "benchmark",
    "no YAML": "a: [1\n",
    "tabulators": "a:\n\t- 1\n",
    "binary": "\0\1\2",
    "python object": "epochs: !!python/object/apply:os.system ['touch ran']\n",
    "merge of nothing": "<<: *nothing\n",
}

# Lines that YAML reads unlike they look.
LINES = {
    "norway": ("vis: NO WAY", "vis"),
    "sexagesimal": ("epochs: 1:30:00.5", "epochs"),
    "date": ("seeds: [2020-01-01]", "seeds"),
    "octal word": ("threads: 0o9", "threads"),
    "fraction that is whole": ("epochs: 2.0", "epochs"),
    "not a number": ("training: {lr: .nan}", "lr"),
    "python name": ("epochs: !!python/name:os.system", "epochs"),
    "number as key": ("5: 1", "5"),
    "null as key": ("~: 1", "None"),
}


def cases() -> dict[str, tuple]:
    """Changes, a whole text or a last line, and what its error names, by name."""
    wrong = {
        f"{option}: {kind}": (make(value), option.split(".")[-1])
        for option, (make, values) in OPTIONS.items()
        for kind, value in values.items()
    }
    wrong |= {f"unknown in {place}": case for place, case in UNKNOWN.items()}
    for kind, name in EVIL.items():
        wrong |= {
            f"data set named {kind}": ({"datasets": {name: MICRO}}, "datasets"),
            f"experiment named {kind}": (
                {"experiments": {name: {"variant": "original"}}},
                "experiments",
            ),
            f"prediction named {kind}": (
                {"predict": {name: {"run": "x", "images": "data"}}},
                "predict",
            ),
            f"class named {kind}": (datasets(classes=[name]), "data"),
        }
    wrong |= {f"file: {kind}": (text, "Config file") for kind, text in TEXTS.items()}
    return wrong | {f"line: {kind}": case for kind, case in LINES.items()}
