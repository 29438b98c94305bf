"""One run by hand: the pipeline's steps, one after the other, without its caches."""

from collections.abc import Mapping
from pathlib import Path

from fsad.artifacts import paths
from fsad.artifacts.paths import Run
from fsad.artifacts.schema import merged
from fsad.backbones.clip import load_backbone
from fsad.backbones.devices import check_device
from fsad.backbones.embed import embed_set
from fsad.backbones.readout import VARIANTS, parse_variant
from fsad.data.faults import comparison_faults
from fsad.data.images import load_images, load_masks, warn
from fsad.data.prepare import looks
from fsad.data.words import tokenize
from fsad.errors import UserError
from fsad.evaluation.runs import make_run
from fsad.evaluation.tasks import Truth
from fsad.methods.base import Text
from fsad.planning.options import class_files, class_override
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
    plan = Plan(_only(config, run, changed))
    record, features, images, masks = plan.run(run), {}, {}, None
    towers = load_backbone(config["backbone"])
    vision = towers[0].to(config["device"], config["precision"])
    variant = parse_variant(record["readout"]["fields"])
    place = run.dataset, run.class_name
    samples = {"test": plan.classes[place].test}
    samples["support"] = plan.draw(place, run.seed)
    for name, wanted in samples.items():
        images[name] = load_images(wanted, plan.size, config["threads"])
        features[name] = embed_set(vision, images[name], variant)
    seen = (looks(samples[name], images[name]) for name in ("support", "test"))
    warn(comparison_faults(*seen))
    if run.task == "seg" or (vis and plan.classes[place].has_masks):
        loaded = load_masks(samples["test"], config["resolution"], config["threads"])
        masks = loaded["masks"]
    truth = Truth(images["test"]["labels"], masks)
    make_run(out, record, _text(plan, run, towers[1]), features, truth)
    if vis:
        maps = run_maps(out / paths.SCORES, record)
        write_panels(out / "vis", images["test"], maps, masks)


def _text(plan: Plan, run: Run, tower) -> Text | None:
    """Text tower and tokens for a method that reads text."""
    source = plan.run_job([run]).prompts
    if source is None:
        return None
    return Text(tower, tokenize(source.record["text"], source.record["states"]))


def _only(config: Mapping, run: Run, changed: Mapping) -> dict:
    """The configuration of this run alone."""
    source = config["datasets"][run.dataset] | {"classes": [run.class_name]}
    own = class_override(config, run.dataset, run.class_name)
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
    named = {experiment: {"method": "promptad", "variant": experiment}}
    known = named if experiment in VARIANTS else {}
    return {**config, "experiments": known | config["experiments"]}


def _check_names(config: Mapping, run: Run) -> None:
    for option, known in (("experiment", "experiments"), ("dataset", "datasets")):
        if getattr(run, option) not in config[known]:
            names = ", ".join(config[known])
            raise UserError(
                f"--{option}: {getattr(run, option)!r} is not in the config ({names})"
            )
    files = class_files(config, run.dataset, run.class_name)
    if run.task == "seg" and not files.has_seg:
        raise UserError(
            f"{run.dataset}/{run.class_name}: no masks, seg cannot be evaluated"
        )


def _check_free(out: Path) -> None:
    if (out / paths.METRICS).exists():
        raise UserError(f"--out: {out} holds a run already; name another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; name a folder")
