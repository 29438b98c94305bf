"""The command line: fsad COMMAND, see fsad --help."""

import argparse
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from fsad.artifacts import paths
from fsad.artifacts.names import nfc
from fsad.artifacts.paths import TREE, Run
from fsad.artifacts.schema import read_yaml
from fsad.errors import UserError
from fsad.evaluation.metrics import METRICS, read_metrics
from fsad.jobs.job import program
from fsad.jobs.threads import limit_threads, limit_torch_threads
from fsad.methods.registry import METHODS, method_schema
from fsad.planning.graph import graph_of_call
from fsad.planning.options import complete, config_schema

COMMANDS: dict[str, tuple[Callable, tuple]] = {}  # function and options, by name


def main() -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser("fsad", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, options) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        for names, settings in options:
            command.add_argument(*names, **settings)
    arguments = parser.parse_args()
    with program():
        arguments.run(arguments)


def command(*options):
    """Register a function as the command of its name; its docstring is the help."""

    def register(run: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
        COMMANDS[run.__name__.replace("_", "-")] = run, options
        return run

    return register


def option(*names: str, **settings) -> tuple:
    """An option of a command, as `add_argument` takes it."""
    return names, settings


def _positive(text: str) -> int:
    return _at_least(1, text)


def _path(text: str) -> Path:
    return Path(text).expanduser()  # --out=~/folder is not expanded by shells


def _natural(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of at least {least}"
        )
    return int(text)


def _threshold(text: str) -> float:
    single = np.finfo(np.float32)  # in which it is compared with scores
    with suppress(ValueError):
        if float(single.tiny) <= float(text) <= float(single.max):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a finite number above 0")


def _share(text: str) -> float:
    """A share between 0 and 1, from `5%` or `0.05`."""
    number, percent, rest = text.strip().partition("%")
    with suppress(ValueError):
        share = float(number) / (100 if percent else 1)
        if 0 < share < 1 and not rest:
            return share
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a share between 0 and 1, as 5% or 0.05"
    )


INSTEAD = "instead of the config's"
FIRST = "default: the first of the config"
RUN_PATH = f"RESULTS/{TREE.run}".replace("{", "").replace("}", "")
THREADS = option("--threads", type=_positive, default=2)
MAX_MEGAPIXELS = option("--max-megapixels", type=_positive, help="of one image")
OF_ALL = "of all images, of several in the file; default: by the images' folders"
OUT_FOLDER = option("--out", type=_path, required=True, help="folder to write")
DEVICE = option("--device", default="cpu", help="cpu, cuda or cuda:N")
FOR_A_RUN = (
    option("--run", dest="source", type=_path, required=True, help=RUN_PATH),
    DEVICE,
    THREADS,
)
SOURCES = f"{RUN_PATH}, or a file of fsad export"
CLASS = option(
    "--class", dest="class_name", metavar="CLASS", help="of several", type=nfc
)
FROM_GOOD_IMAGES = (
    option("detector", type=_path, metavar="DETECTOR", help=SOURCES),
    option("good", type=_path, metavar="GOOD_FOLDER", help="good images, none learned"),
    option("--out", type=_path, required=True, help="file to write, .safetensors"),
    CLASS,
    MAX_MEGAPIXELS,
    DEVICE,
    THREADS,
)
FOR_A_CALL = (
    option("--config", nargs="+", default=[], metavar="OPTION=VALUE"),
    option("--snakefile", type=_path, default="Snakefile"),
)


@command(
    option("task", choices=["cls", "seg"], help="image or pixel level"),
    option("--dataset", required=True, help="a data set of the config"),
    option("--class", required=True, dest="class_name", metavar="CLASS", type=nfc),
    OUT_FOLDER,
    option("--config", type=_path, default="config/config.yaml"),
    option("--experiment", help=f"or a variant; {FIRST}"),
    option("--root", help=f"folder of the data set, {INSTEAD}"),
    option("--shots", type=_natural, help=FIRST),
    option("--seed", type=_natural, help=FIRST),
    option("--epochs", type=_positive, help=INSTEAD),
    option("--eval-every", type=_positive, help=INSTEAD),
    option("--resolution", help=f"in pixels, or raw, {INSTEAD}"),
    option("--max-megapixels", type=_positive, help=INSTEAD),
    option("--threads", type=_positive, help=INSTEAD),
    option("--device", help=f"cpu, cuda or cuda:N, {INSTEAD}"),
    option("--vis", action="store_true", help="also draw panels in OUT/vis"),
)
def train(arguments: Namespace) -> None:
    """make one run of one class, as the pipeline does"""
    names = "resolution", "max_megapixels", "threads", "device"
    general = _given(arguments, names)
    # The slots of `gpus` are shared out among the jobs of the pipeline.
    given = read_yaml(arguments.config) | {"gpus": []} | general
    if arguments.root is not None and arguments.dataset in given.get("datasets", {}):
        given["datasets"][arguments.dataset]["root"] = arguments.root
    config = complete(given)
    first = next(iter(config["experiments"]))
    limit_torch_threads(config["threads"])
    from fsad.single import run_single

    run = Run(
        first if arguments.experiment is None else arguments.experiment,
        arguments.dataset,
        arguments.class_name,
        arguments.task,
        config["shots"][0] if arguments.shots is None else arguments.shots,
        config["seeds"][0] if arguments.seed is None else arguments.seed,
    )
    changed = _given(arguments, ("epochs", "eval_every"))
    run_single(config, run, changed, arguments.out, arguments.vis)
    metric = METRICS[run.task][0]
    value = read_metrics(arguments.out / paths.METRICS)["last"][metric]
    print(f"{metric} {value:.2f} after the last epoch: {arguments.out}")


def _given(arguments: Namespace, names: Iterable[str]) -> dict:
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


@command(
    option("folder", type=_path),
    option("--seed", type=_natural, default=0),
    option("--good", type=_positive, help="good test images of a class, instead of 16"),
    option("--large", action="store_true", help="large images with small defects"),
)
def demo_data(arguments: Namespace) -> None:
    """generate the demo data set"""
    from fsad.demo.dataset import write_demo
    from fsad.demo.large import write_large

    if arguments.large and arguments.good:
        raise UserError("--good: not with --large, whose numbers are fixed; leave it")
    limit_threads(1)
    write = write_large if arguments.large else write_demo
    write(arguments.folder, arguments.seed, **_given(arguments, ["good"]))


@command(
    option("compact", type=_path, help="a compact weight file"),
    option("checkpoint", type=_path, help="file to write, .safetensors"),
)
def expand(arguments: Namespace) -> None:
    """make an ordinary open_clip checkpoint of a compact weight file"""
    from fsad.backbones.compact import write_checkpoint

    write_checkpoint(arguments.compact, arguments.checkpoint)


@command(option("checkpoint", type=_path, help="file to write, .safetensors"))
def lite0_weights(arguments: Namespace) -> None:
    """write ImageNet weights of EfficientNet-Lite0, of the package of envs/lite0.txt,
    as timm names them"""
    from fsad.backbones.lite0 import write_lite0

    write_lite0(arguments.checkpoint)


@command(
    option("pid", type=_positive, help="of the process, say Snakemake's"),
    OUT_FOLDER,
    option("--cores", type=_positive, help="budget to draw in the plot"),
)
def monitor(arguments: Namespace) -> None:
    """sample cores and memory of a process and all its descendants"""
    from fsad.jobs.monitor import watch

    watch(arguments.pid, arguments.out)
    from fsad.jobs.timeline import summarise  # heavy, and only needed now

    summarise(arguments.out, arguments.cores)


@command(
    option("folder", type=_path, help="holds a folder for each class"),
    MAX_MEGAPIXELS,
    THREADS,
)
def check_data(arguments: Namespace) -> None:
    """read every image of a data folder, list classes and problems, and write the
    configuration that fits to standard output"""
    from fsad.data import inspect

    limit_threads(arguments.threads)
    _limit_pixels(arguments)
    report = inspect.check_data(arguments.folder, arguments.threads)
    print("\n".join(report.classes), file=sys.stderr)
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if report.options:
        print(yaml.safe_dump(report.options, sort_keys=False), end="")
    if report.problems:
        raise UserError(f"{arguments.folder}: problems: {len(report.problems)}")


def _limit_pixels(arguments: Namespace) -> None:
    """Set the largest image to what the arguments name, or to the config's default."""
    from fsad.data.decode import limit_pixels

    default = config_schema()["properties"]["max_megapixels"]["default"]
    limit_pixels(arguments.max_megapixels or default)


@command(
    option("images", nargs="+", type=_path, help="image files or folders"),
    OUT_FOLDER,
    option("--class", dest="class_name", metavar="CLASS", type=nfc, help=OF_ALL),
    option("--threshold", type=_threshold, help="of the image score, for all classes"),
    option("--html", action="store_true", help="also write a page, OUT/page.html"),
    MAX_MEGAPIXELS,
    *FOR_A_RUN,
)
def predict(arguments: Namespace) -> None:
    """score new images with a run, or with a file of fsad export"""
    limit_torch_threads(arguments.threads)
    _limit_pixels(arguments)
    from fsad.data.layouts import find_images
    from fsad.deployment.page import PAGE, add_thumbnails, write_page
    from fsad.evaluation import predict as prediction
    from fsad.evaluation.timing import speed

    out, thumbnails = arguments.out, {}
    if any((out / name).exists() for name in (paths.TABLE, PAGE)):
        raise UserError(f"--out: {out} holds scores already; name another")
    detectors = prediction.open_detectors(arguments.source, arguments.device)
    if arguments.threshold is not None:
        detectors = prediction.with_threshold(detectors, arguments.threshold)
    images = find_images(arguments.images)
    assigned = prediction.detectors_of_images(detectors, images, arguments.class_name)
    show = partial(add_thumbnails, thumbnails) if arguments.html else None
    rows, seconds = prediction.predict(assigned, images, out, arguments.threads, show)
    if arguments.html:
        write_page(out / PAGE, rows, thumbnails)
    print(f"{prediction.summary(rows)}: {out}")
    if scored := sum(row.score is not None for row in rows):
        print(speed(scored, seconds))
    failed = sum(row.error != "" for row in rows)
    if failed:
        raise UserError(f"{failed} of {len(rows)} images could not be read")


@command(
    option("--run", dest="sources", nargs="+", type=_path, required=True, help=SOURCES),
    option("--out", type=_path, required=True, help=".safetensors or .onnx"),
    CLASS,
    option("--check", type=_path, help="images on which .onnx is compared too"),
    MAX_MEGAPIXELS,
    THREADS,
)
def export(arguments: Namespace) -> None:
    """write runs, of a class each, as one file that fsad predict takes, or one as a
    graph of ONNX that is compared with torch"""
    limit_torch_threads(arguments.threads)
    _limit_pixels(arguments)
    from fsad.deployment.export import export_file

    done = export_file(
        arguments.out, arguments.sources, arguments.class_name, arguments.check
    )
    print(f"{arguments.out}: {done}")


@command(
    *FROM_GOOD_IMAGES,
    option("--false-alarms", type=_share, default="5%", help="at most [5%%]"),
    option("--confidence", type=_share, default="95%", help="of that bound [95%%]"),
)
def calibrate(arguments: Namespace) -> None:
    """set the threshold of a detector from good images, for a bound of false alarms"""
    detectors, name = _open_to_change(arguments)
    from fsad.deployment.thresholds import Bound, calibrate_on_good, summary

    bound = Bound(arguments.false_alarms, arguments.confidence)
    found = calibrate_on_good(detectors[name], arguments.good, bound)
    _save_changed(arguments.out, detectors | {name: found.detector})
    print("\n".join(summary(found, bound)))


@command(*FROM_GOOD_IMAGES)
def extend(arguments: Namespace) -> None:
    """add good images to the memory of a detector, and calibrate it again"""
    detectors, name = _open_to_change(arguments)
    from fsad.deployment.growth import extend, summary

    found = extend(detectors[name], arguments.good, arguments.threads)
    _save_changed(arguments.out, detectors | {name: found.detector})
    print("\n".join(summary(found)))


def _open_to_change(arguments: Namespace) -> tuple[dict, str]:
    """Detectors by class, and the class of the one that changes."""
    limit_torch_threads(arguments.threads)
    _limit_pixels(arguments)
    from fsad.evaluation.detector_files import chosen_class
    from fsad.evaluation.predict import open_detectors

    if arguments.out.suffix != ".safetensors":
        raise UserError(f"--out: {arguments.out} must end in .safetensors")
    detectors = open_detectors(arguments.detector, arguments.device)
    return detectors, chosen_class(detectors, arguments.class_name)


def _save_changed(out: Path, detectors: Mapping) -> None:
    from fsad.evaluation.detector_files import save_detectors

    save_detectors(out, [*detectors.values()])


@command(
    option("--configfile", nargs="+", default=["config/config.yaml"], metavar="FILE"),
    *FOR_A_CALL,
)
def status(arguments: Namespace) -> None:
    """list what is done of a configuration, what is left, and failures"""
    from fsad.jobs.status import plain_jobs, report
    from fsad.planning.checks import make_plan
    from fsad.planning.disk import planned

    call = arguments.snakefile, arguments.configfile, arguments.config
    jobs, config = graph_of_call(*call)
    plan = make_plan(config, strict=False)
    print(report(planned(plan), plain_jobs(jobs), plan.tree.benchmarks))


@command(
    option("--configfile", nargs="+", default=["config/verify.yaml"], metavar="FILE"),
    *FOR_A_CALL,
)
def verify(arguments: Namespace) -> None:
    """self-test: run one class in several ways and write a checklist"""
    limit_torch_threads(2)
    from fsad.data.decode import limit_pixels
    from fsad.reference.selftest import first_class, prepare_data, write_checklist

    prepare_data(arguments.configfile)
    call = arguments.snakefile, arguments.configfile, arguments.config
    _, config = graph_of_call(*call)
    limit_pixels(config["max_megapixels"])
    folder = Path(config["results"]) / "verify"
    shutil.rmtree(folder, ignore_errors=True)
    print(write_checklist(first_class(config, folder, str(arguments.snakefile))))


@command(option("pattern", nargs="?", default="", help="a word, or with * and ?"))
def backbones(arguments: Namespace) -> None:
    """list backbones with trained weights: library, model, tag, pixels, licence"""
    from fsad.backbones.catalogue import Row, list_backbones
    from fsad.jobs.status import aligned

    rows = list_backbones(arguments.pattern)
    if not rows:
        raise UserError(f"{arguments.pattern}: no backbone has this in its name")
    table = [Row._fields, *([*map(str, row)] for row in rows)]
    print("\n".join(aligned(table, left=len(table[0]))))


@command()
def methods(arguments: Namespace) -> None:
    """list methods, their options and defaults"""
    for name in METHODS:
        schema = method_schema(name)
        print(f"{name}: {schema['description']}")
        for key, found in schema["properties"].items():
            default = f" [{found['default']}]" if "default" in found else ""
            print(f"  {key}{default}: {found['description']}")


@command(
    option("case", type=_path, help="inputs and settings, .npz"),
    option("out", type=_path, help="file to write, .npz"),
)
def parity(arguments: Namespace) -> None:
    """compute a case of published code with this project's functions"""
    from fsad.reference.parity import write_parity

    write_parity(arguments.case, arguments.out)


@command(
    option("--options", type=_path, default="config/demo_backbone.yaml"),
    option("--out", type=_path, required=True, help="file to write, .safetensors"),
    THREADS,
)
def train_demo_clip(arguments: Namespace) -> None:
    """train the demo's small CLIP from scratch"""
    limit_torch_threads(arguments.threads)
    from fsad.backbones.compact import save_compact
    from fsad.demo.clip.training import pretrain, read_options

    states = config_schema()["properties"]["states"]["default"]
    options = read_options(arguments.options)
    save_compact(arguments.out, *pretrain(options, states, arguments.threads))


if __name__ == "__main__":
    main()
