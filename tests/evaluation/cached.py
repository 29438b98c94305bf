"""Cached files of one class in a results tree, and the jobs that read them."""

import numpy as np

from fsad.artifacts.files import write_npz
from fsad.artifacts.paths import Run, fill, results_tree, run_path
from fsad.artifacts.sources import Embedding, RunJob, Source
from fsad.artifacts.stages import identity, record
from fsad.backbones.features import embed_draw, embed_test
from fsad.backbones.networks import open_network
from fsad.backbones.readout import VARIANTS, Readout, described, variant_readout
from fsad.backbones.tower import save_tower
from fsad.data.augment import Augment, copies
from fsad.data.views import View
from fsad.data.words import tokenize_ensemble
from fsad.methods.registry import METHODS
from helpers import OPTIONS

PLACE = {"dataset": "own", "class": "nut"}
KEYS = {"dataset": "own", "class_name": "nut", "backbone": "tiny", "seed": 1}
VIEW = View("square", 32)
READOUT = variant_readout(VARIANTS["original"], VIEW)
DRAWN = [["s0", "0"], ["s1", "1"], ["s2", "2"]]  # names and digests
RUN = Run("original", "own", "nut", "cls", shots=2, seed=1)
INPUTS = ("test", "text", "prompts", "masks")  # of the record of a run


def image_sets(augment: Augment = READOUT.augment) -> dict[str, dict]:
    """Random images of the class, four to test and three, with copies, to draw from."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (7, 32, 32, 3), np.uint8)
    drawn = [copies(image, augment, (index,)) for index, image in enumerate(images[4:])]
    names = np.array(["g0", "g1", "d0", "d1"])
    labels = np.array([0, 0, 1, 1], np.uint8)
    test = {"images": images[:4], "names": names, "labels": labels}
    support = {"images": np.array(drawn), "shapes": np.full((3, 2), 64, np.int32)}
    return {"test": test, "support": support}


def mask_set() -> np.ndarray:
    """Masks of the test images, uint8 [4, 16, 16]."""
    masks = np.zeros((4, 16, 16), np.uint8)
    masks[2, 3:8, 4:9] = masks[3, 10:, 10:] = 1
    return masks


def feature_sets(vision, readout: Readout = READOUT) -> dict[str, dict]:
    """Features of the images of the class, as they are stored."""
    network, images = open_network(vision), image_sets(readout.augment)
    test = embed_test(network, images["test"], readout)
    return {"test": test, "support": embed_draw(network, images["support"], readout)}


def write_cache(results, towers, tokens, readout: Readout = READOUT):
    """Write the files that the pipeline caches of the class; returns the folder."""
    sources, images = planned_sources(results, readout), image_sets(readout.augment)
    features = feature_sets(towers[0], readout)
    for name, tower in zip(("vision", "text"), towers, strict=True):
        save_tower(sources[name].path, tower, sources[name].record)
    arrays = {
        "images": images["test"],
        "support_images": images["support"],
        "test": features["test"],
        "support": features["support"],
        "prompts": tokens | tokenize_ensemble("nut", ["damaged {}"]),
        "masks": {"masks": mask_set()},
    }
    for name, content in arrays.items():
        write_npz(sources[name].path, content, sources[name].record)
    return results


def planned_sources(results, readout: Readout = READOUT) -> dict[str, Source]:
    """The cached files of the class, with their records, by name."""
    tree, view = results_tree(results), {"view": VIEW._asdict(), "region": None}
    features = {"backbone": "tiny", "made_from": "tiny's", "precision": "float32"}
    features |= {"readout": described(readout), "device": "cpu", **PLACE}
    features |= {"region": None}
    drawn = {"seed": 1, "augment": readout.augment._asdict(), **view, **PLACE}
    masks = {"resolution": 16, "images": "all", "masks": "all", "region": None}
    records = {
        "vision": record("backbone", backbone="tiny", part="vision"),
        "text": record("backbone", backbone="tiny", part="text"),
        "images": record("images", images="all", **view, **PLACE),
        "support_images": record("support", images=DRAWN, **drawn),
        "prompts": record("prompts", text="nut", states=["damaged {}"], **PLACE),
        "masks": record("masks", **masks, **PLACE),
        "test": record("features", images="all", **features),
        "support": record("features", images=DRAWN, **features),
    }
    patterns = {"test": "test_features", "support": "support_features"}
    patterns |= {"images": "test_images"}
    views = {"support_images": VIEW.name + readout.augment.name}
    keys = {"readout": readout.name, "resolution": 16, **KEYS}

    def path(name: str) -> str:
        pattern = getattr(tree, patterns.get(name, name))
        return fill(pattern, view=views.get(name, VIEW.name), **keys)

    return {name: Source(path(name), made) for name, made in records.items()}


def run_record(sources, run: Run = RUN, method="promptad", **changed) -> dict:
    """The record of a run, with changes of its options."""
    made_from = {name: identity(sources[name].record) for name in INPUTS}
    drawn = identity(sources["support"].record, without=("images",))
    keys = run._asdict()
    return record(
        "run",
        **{"class": keys.pop("class_name"), **keys},
        method=method,
        module=METHODS[method].module,
        backbone="tiny",
        readout=sources["test"].record["readout"],
        options=OPTIONS | changed,
        support=DRAWN[: run.shots],
        made_from=made_from | {"support": drawn},
    )


def run_job(results, sources, *runs: Run, method="promptad", **changed) -> RunJob:
    """A job of runs of the class, with changes of their options."""
    pattern = results_tree(results).run
    drawn = Embedding(sources["support_images"], sources["support"])
    texts = ("text", "prompts") if METHODS[method].reads_text else ()
    return RunJob(
        folders=[run_path(pattern, run) for run in runs],
        records=[run_record(sources, run, method, **changed) for run in runs],
        test=Embedding(sources["images"], sources["test"]),
        support={run.seed: drawn for run in runs},
        vision=sources["vision"],
        masks=sources["masks"],
        **dict.fromkeys(("text", "prompts")) | {name: sources[name] for name in texts},
    )


def seen(images):
    """What a network takes of whole images uint8 [N, H, W, 3]."""
    return [{"images": x, "shape": np.array(x.shape[:2])} for x in images]
