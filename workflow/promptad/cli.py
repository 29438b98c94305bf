"""The command line: promptad COMMAND, see promptad --help."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from promptad.config import complete, read_yaml
from promptad.errors import UserError
from promptad.jobs import program
from promptad.metrics import METRICS
from promptad.storage import read_record
from promptad.threads import limit_threads, limit_torch_threads

GENERAL = ("resolution", "threads", "device")
THREADS = 2
SCHEDULE = ("epochs", "eval_every")


def main() -> None:
    """Run the command that the arguments name."""
    arguments = _parser().parse_args()
    with program():
        arguments.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("promptad", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_demo_data(commands)
    _add_expand(commands)
    _add_monitor(commands)
    _add_check_data(commands)
    _add_predict(commands)
    _add_export(commands)
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
    config = complete(given)
    limit_torch_threads(config["threads"])
    from promptad.byhand import train_by_hand

    keys = {
        "task": arguments.task,
        "experiment": arguments.experiment or next(iter(config["experiments"])),
        "dataset": arguments.dataset,
        "class_name": arguments.class_name,
        "shots": arguments.shots or config["shots"][0],
        "seed": config["seeds"][0] if arguments.seed is None else arguments.seed,
    }
    changed = _given(arguments, SCHEDULE)
    train_by_hand(config, keys, changed, arguments.root, arguments.out, arguments.vis)
    metric = METRICS[arguments.task][0]
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
    from promptad.demo import write_demo

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
    from promptad.compact import write_checkpoint

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
    from promptad.monitor import watch

    watch(arguments.pid, arguments.out)
    from promptad.timeline import summarise  # heavy, and only needed now

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
    from promptad.data_check import check_data

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
    from promptad import predicting
    from promptad.layouts import find_images

    if (arguments.out / predicting.TABLE).exists():
        raise UserError(f"--out: {arguments.out} holds scores already; name another")
    detector = predicting.open_detector(arguments.run_path, arguments.device)
    images = find_images(arguments.images)
    counts = predicting.predict(detector, images, arguments.out, arguments.threads)
    print(f"{counts.anomalous} of {len(images)} images are anomalous: {arguments.out}")
    if counts.failed:
        raise UserError(f"{counts.failed} of {len(images)} images could not be read")


def _add_export(commands) -> None:
    export = commands.add_parser(
        "export", help="write a trained run as one file that promptad predict takes"
    )
    export.set_defaults(run=_export)
    export.add_argument(
        "--out", required=True, type=Path, help="file to write, .safetensors"
    )
    _add_run(export)


def _export(arguments: argparse.Namespace) -> None:
    limit_torch_threads(arguments.threads)
    from promptad.detector import save_detector
    from promptad.trained import run_detector

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


if __name__ == "__main__":
    main()
