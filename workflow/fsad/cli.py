"""The command line: fsad COMMAND, see fsad --help."""

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from fsad.artifacts.files import read_record
from fsad.artifacts.paths import Run
from fsad.artifacts.schema import read_yaml
from fsad.errors import UserError
from fsad.evaluation.metrics import METRICS
from fsad.jobs.job import program
from fsad.jobs.threads import limit_threads, limit_torch_threads
from fsad.planning.options import complete, config_schema

GENERAL = ("resolution", "threads", "device")
THREADS = 2
SCHEDULE = ("epochs", "eval_every")


def main() -> None:
    """Run the command that the arguments name."""
    arguments = _parser().parse_args()
    with program():
        arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fsad", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_demo_data(commands)
    _add_expand(commands)
    _add_monitor(commands)
    _add_check_data(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_status(commands)
    _add_verify(commands)
    _add_parity(commands)
    _add_train_demo_clip(commands)
    return parser


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="train one class, as the pipeline does")
    train.set_defaults(run=_train)
    train.add_argument("task", choices=["cls", "seg"], help="image or pixel level")
    train.add_argument("--dataset", required=True, help="a data set of the config")
    train.add_argument("--class", required=True, dest="class_name", metavar="CLASS")
    train.add_argument("--out", required=True, type=Path, help="folder of the run")
    train.add_argument("--config", type=Path, default="config/config.yaml")
    train.add_argument("--experiment", help="default: the first of the config")
    train.add_argument("--root", help="folder of the data set, instead of the config's")
    train.add_argument(
        "--shots", type=_positive, help="default: the first of the config"
    )
    train.add_argument("--seed", type=_natural, help="default: the first of the config")
    for option in ("epochs", "eval-every", "resolution", "threads"):
        train.add_argument(
            f"--{option}", type=_positive, help="instead of the config's"
        )
    train.add_argument("--device", help="cpu, cuda or cuda:N, instead of the config's")
    train.add_argument("--vis", action="store_true", help="also draw panels in OUT/vis")


def _train(arguments: argparse.Namespace) -> None:
    # The slots of `gpus` are shared out among the jobs of the pipeline.
    given = read_yaml(arguments.config) | {"gpus": []} | _given(arguments, GENERAL)
    if arguments.root and arguments.dataset in given.get("datasets", {}):
        given["datasets"][arguments.dataset]["root"] = arguments.root
    config = complete(given)
    limit_torch_threads(config["threads"])
    from fsad.single import run_single

    run = Run(
        arguments.experiment or next(iter(config["experiments"])),
        arguments.dataset,
        arguments.class_name,
        arguments.task,
        arguments.shots or config["shots"][0],
        config["seeds"][0] if arguments.seed is None else arguments.seed,
    )
    changed = _given(arguments, SCHEDULE)
    run_single(config, run, changed, arguments.out, arguments.vis)
    metric = METRICS[run.task][0]
    value = read_record(arguments.out / "metrics.json")["last"][metric]
    print(f"{metric} {value:.2f} after the last epoch: {arguments.out}")


def _given(arguments: argparse.Namespace, options: Iterable[str]) -> dict:
    values = {option: getattr(arguments, option) for option in options}
    return {option: value for option, value in values.items() if value is not None}


def _positive(text: str) -> int:
    return _at_least(1, text)


def _natural(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of at least {least}"
        )
    return int(text)


def _add_demo_data(commands) -> None:
    data = commands.add_parser("demo-data", help="generate the demo data set")
    data.set_defaults(run=_demo_data)
    data.add_argument("folder", type=Path)
    data.add_argument("--seed", type=_natural, default=0)


def _demo_data(arguments: argparse.Namespace) -> None:
    from fsad.demo.dataset import write_demo

    limit_threads(1)
    write_demo(arguments.folder, arguments.seed)


def _add_expand(commands) -> None:
    expand = commands.add_parser(
        "expand", help="make an ordinary open_clip checkpoint of a compact weight file"
    )
    expand.set_defaults(run=_expand)
    expand.add_argument("compact", type=Path, help="a compact weight file")
    expand.add_argument("checkpoint", type=Path, help="file to write, .safetensors")


def _expand(arguments: argparse.Namespace) -> None:
    from fsad.backbones.compact import write_checkpoint

    write_checkpoint(arguments.compact, arguments.checkpoint)


def _add_monitor(commands) -> None:
    monitor = commands.add_parser(
        "monitor", help="sample cores and memory of a process and all it starts"
    )
    monitor.set_defaults(run=_monitor)
    monitor.add_argument("pid", type=_positive, help="of the process, say Snakemake's")
    monitor.add_argument("--out", required=True, type=Path, help="folder to write to")
    monitor.add_argument("--cores", type=_positive, help="budget to draw in the plot")


def _monitor(arguments: argparse.Namespace) -> None:
    from fsad.jobs.monitor import watch

    watch(arguments.pid, arguments.out)
    from fsad.jobs.timeline import summarise  # heavy, and only needed now

    summarise(arguments.out, arguments.cores)


def _add_check_data(commands) -> None:
    check = commands.add_parser(
        "check-data",
        help="read every image of a data folder, say what is there and what is wrong, "
        "and write the configuration that fits to standard output",
    )
    check.set_defaults(run=_check_data)
    check.add_argument("folder", type=Path, help="it holds a folder for each class")
    check.add_argument("--threads", type=_positive, default=THREADS)


def _check_data(arguments: argparse.Namespace) -> None:
    from fsad.data.inspect import check_data

    limit_threads(arguments.threads)
    checked = check_data(arguments.folder, arguments.threads)
    print("\n".join(checked.classes), file=sys.stderr)
    for problem in checked.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if checked.options:
        print(yaml.safe_dump(checked.options, sort_keys=False), end="")
    if checked.problems:
        raise UserError(f"{arguments.folder}: problems: {len(checked.problems)}")


def _add_predict(commands) -> None:
    predict = commands.add_parser("predict", help="score new images with a trained run")
    predict.set_defaults(run=_predict)
    predict.add_argument("images", nargs="+", type=Path, help="image files or folders")
    predict.add_argument("--out", required=True, type=Path, help="folder to write")
    _add_run(predict)


def _predict(arguments: argparse.Namespace) -> None:
    limit_torch_threads(arguments.threads)
    from fsad.data.layouts import find_images
    from fsad.evaluation import predict

    if (arguments.out / predict.TABLE).exists():
        raise UserError(f"--out: {arguments.out} holds scores already; name another")
    detector = predict.open_detector(arguments.run_path, arguments.device)
    images = find_images(arguments.images)
    counts = predict.predict(detector, images, arguments.out, arguments.threads)
    print(f"{counts.anomalous} of {len(images)} images are anomalous: {arguments.out}")
    if counts.failed:
        raise UserError(f"{counts.failed} of {len(images)} images could not be read")


def _add_export(commands) -> None:
    export = commands.add_parser(
        "export", help="write a trained run as one file that fsad predict takes"
    )
    export.set_defaults(run=_export)
    export.add_argument(
        "--out", required=True, type=Path, help="file to write, .safetensors"
    )
    _add_run(export)


def _export(arguments: argparse.Namespace) -> None:
    limit_torch_threads(arguments.threads)
    from fsad.evaluation.detector import save_detector
    from fsad.evaluation.restore import run_detector

    detector = run_detector(arguments.run_path, arguments.device)
    save_detector(arguments.out, detector)


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run",
        required=True,
        dest="run_path",
        type=Path,
        help="RESULTS/runs/EXPERIMENT/DATASET/CLASS/kSHOTS/sSEED/TASK, or, to predict, "
        "an exported file",
    )
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    command.add_argument("--threads", type=_positive, default=THREADS)


def _add_status(commands) -> None:
    status = commands.add_parser(
        "status", help="what is done of a configuration, what is left, and why"
    )
    status.set_defaults(run=_status)
    _add_call(status, "config/config.yaml")


def _add_call(command: argparse.ArgumentParser, default: str) -> None:
    """Options that name a configuration as a call of Snakemake does."""
    command.add_argument("--configfile", nargs="+", default=[default], metavar="FILE")
    command.add_argument("--config", nargs="+", default=[], metavar="OPTION=VALUE")
    command.add_argument("--snakefile", type=Path, default="Snakefile")


def _status(arguments: argparse.Namespace) -> None:
    from fsad.jobs.status import plain_jobs, report
    from fsad.planning.graph import graph_of_call
    from fsad.planning.plan import Plan

    jobs, config = graph_of_call(
        arguments.snakefile, arguments.configfile, arguments.config
    )
    plan = Plan(config, strict=False)
    print(report(plan.planned(), plain_jobs(jobs), plan.tree.benchmarks))


def _add_verify(commands) -> None:
    verify = commands.add_parser(
        "verify", help="self-test: run one class in several ways and write a checklist"
    )
    verify.set_defaults(run=_verify)
    _add_call(verify, "config/verify.yaml")


def _verify(arguments: argparse.Namespace) -> None:
    from fsad.planning.graph import graph_of_call

    limit_torch_threads(THREADS)
    from fsad.reference.selftest import first_class, prepare_data, write_checklist

    files, changes = arguments.configfile, arguments.config
    prepare_data(files)
    _, config = graph_of_call(arguments.snakefile, files, changes)
    folder = Path(config["results"]) / "verify"
    shutil.rmtree(folder, ignore_errors=True)
    print(write_checklist(first_class(config, folder, str(arguments.snakefile))))


def _add_parity(commands) -> None:
    parity = commands.add_parser(
        "parity",
        help="compute a case of published code, to be compared with its values",
    )
    parity.set_defaults(run=_parity)
    parity.add_argument("case", type=Path, help="inputs and settings, .npz")
    parity.add_argument("out", type=Path, help="file to write, .npz")


def _parity(arguments: argparse.Namespace) -> None:
    from fsad.reference.parity import write_parity

    write_parity(arguments.case, arguments.out)


def _add_train_demo_clip(commands) -> None:
    train = commands.add_parser(
        "train-demo-clip", help="train the demo's small CLIP from scratch"
    )
    train.set_defaults(run=_train_demo_clip)
    train.add_argument("--options", type=Path, default="config/demo_backbone.yaml")
    train.add_argument("--out", type=Path, required=True, help=".safetensors")
    train.add_argument("--threads", type=_positive, default=THREADS)


def _train_demo_clip(arguments: argparse.Namespace) -> None:
    limit_torch_threads(arguments.threads)
    from fsad.backbones.compact import save_compact
    from fsad.demo.clip.training import pretrain, read_options

    options = read_options(arguments.options)
    states = config_schema()["properties"]["states"]["default"]
    weights, numbers = pretrain(options, states, arguments.threads)
    save_compact(arguments.out, weights, numbers)


if __name__ == "__main__":
    main()
