"""One run by hand: the pipeline's steps, one after the other, without its caches."""

from collections.abc import Mapping
from pathlib import Path

from fsad.artifacts import paths
from fsad.artifacts.paths import Run
from fsad.artifacts.schema import merged
from fsad.backbones.devices import check_device
from fsad.backbones.features import computed_features, embed_draw
from fsad.backbones.load import load_towers
from fsad.backbones.networks import open_network
from fsad.backbones.readout import VARIANTS
from fsad.backbones.spec import named_backbone
from fsad.data.decode import limit_pixels
from fsad.data.faults import comparison_faults
from fsad.data.images import load_masks, masks_in_order, warn
from fsad.data.prepare import load_support, load_test, looks
from fsad.data.words import class_tokens
from fsad.errors import UserError
from fsad.evaluation.detector import Detector
from fsad.evaluation.inputs import Inputs, first_rows, new_detector
from fsad.evaluation.runs import make_runs
from fsad.evaluation.tasks import Truth
from fsad.methods import base
from fsad.methods.base import Text
from fsad.planning.checks import make_plan
from fsad.planning.options import class_files, class_override, class_region
from fsad.planning.plan import Plan
from fsad.reports.panels import run_maps, write_panels


def run_single(
    config: Mapping, run: Run, changed: Mapping, out: Path, vis: bool
) -> None:
    """Make one run into `out`, to the bytes of the pipeline, and with `vis` its panels.

    config: a completed one. run: its experiment may be the name of a variant. changed:
    options of the run that replace the configured ones. Raises UserError before
    anything is written.
    """
    config = _with_variant(config, run.experiment)
    _check_names(config, run)
    _check_free(out)
    check_device(config["device"])
    limit_pixels(config["max_megapixels"])
    plan = make_plan(_only(config, run, changed))
    record, place = plan.run(run), run.place
    test, support = _images(plan, run)
    masks = None
    if run.task == "seg" or (vis and plan.classes[place].has_masks):
        files = plan.classes[place].test
        side = config["resolution"]
        region = class_region(config, *place)
        loaded = load_masks(files, side, config["threads"], region)
        masks = masks_in_order(loaded, side)
    truth = Truth(test["labels"], masks)
    inputs = _inputs(plan, run, (test, support), truth)
    make_runs([(out, record)], inputs)
    if vis:
        maps = run_maps(out / paths.SCORES, record)
        write_panels(out / "vis", _shown(plan, run, test), maps, masks)


def _images(plan: Plan, run: Run) -> tuple[dict, dict]:
    """Test images and support images, as the pipeline caches them."""
    place, threads = run.place, plan.config["threads"]
    readout, samples = plan.readout(run.experiment, place), plan.classes[place].test
    region = class_region(plan.config, *place)
    (test,) = load_test(samples, [readout.view], threads, region)
    source = plan.support_images(place, run.seed, readout.view, readout.augment)
    drawn = plan.draw(place, run.seed)
    support = load_support(drawn, source.record, threads, region)
    warn(comparison_faults(looks(drawn, support), looks(samples, test)))
    return test, support


def _shown(plan: Plan, run: Run, test: dict) -> dict:
    """Whole test images; test: as the backbone sees them."""
    place = run.place
    view = plan.readout(run.experiment, place).view
    if not view.is_tiled:
        return test
    threads = plan.config["threads"]
    known = [view.of_whole()], threads, class_region(plan.config, *place)
    (shown,) = load_test(plan.classes[place].test, *known)
    return shown


def _inputs(plan: Plan, run: Run, images: tuple[dict, dict], truth: Truth) -> Inputs:
    place, config = run.place, plan.config
    readout = plan.readout(run.experiment, place)
    name = config["experiments"][run.experiment]["backbone"]
    with named_backbone(name):
        towers = load_towers(config["backbones"][name])
    vision = towers["vision"].to(config["device"], config["precision"])
    network, (test, support) = open_network(vision), images
    drawn = first_rows(embed_draw(network, support, readout), run.shots)
    features, text = computed_features(network, test, readout), _text(plan, run, towers)
    images = first_rows(support, run.shots)

    def detector(record: Mapping, fitted: base.Detector) -> Detector:
        return new_detector(network, record, images, fitted)

    return Inputs(features, lambda _: drawn, detector, text, truth)


def _text(plan: Plan, run: Run, towers: Mapping) -> Text | None:
    """Text tower and tokens for a method that reads text."""
    source = plan.run_job([run]).prompts
    if source is None:
        return None
    tokens = class_tokens(source.record["text"], source.record["states"])
    return Text(towers["text"], tokens)


def _only(config: Mapping, run: Run, changed: Mapping) -> dict:
    """The configuration of this run alone."""
    source = config["datasets"][run.dataset] | {"classes": [run.class_name]}
    own = class_override(config, *run.place)
    return {
        **config,
        "datasets": {run.dataset: source},
        "experiments": {run.experiment: config["experiments"][run.experiment]},
        "overrides": {run.dataset: {run.class_name: merged(own, changed)}},
        "tasks": [run.task],
        "shots": [run.shots],
        "seeds": [run.seed],
        "predict": {},
    }


def _with_variant(config: Mapping, experiment: str) -> dict:
    """A named variant is an experiment even where the configuration has none of it."""
    named = {"method": "promptad", "variant": experiment, "fit": "square"}
    named["backbone"] = next(iter(config["backbones"]))
    known = {experiment: named} if experiment in VARIANTS else {}
    return {**config, "experiments": known | config["experiments"]}


def _check_names(config: Mapping, run: Run) -> None:
    for option, known in (("experiment", "experiments"), ("dataset", "datasets")):
        if getattr(run, option) not in config[known]:
            names = ", ".join(config[known])
            raise UserError(
                f"--{option}: {getattr(run, option)!r} is not in the config ({names})"
            )
    files = class_files(config, *run.place)
    if run.task == "seg" and not files.has_seg:
        raise UserError(
            f"{run.dataset}/{run.class_name}: no masks, seg cannot be evaluated"
        )


def _check_free(out: Path) -> None:
    if (out / paths.METRICS).exists():
        raise UserError(f"--out: {out} holds a run already; name another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; name a folder")
