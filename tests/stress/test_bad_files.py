"""Bad images and masks."""

import json
from pathlib import Path

import numpy as np
import pytest

from fsad.data.images import resize_mask, square
from helpers import TINY
from project import Project
from stress.pictures import (
    CULPRIT,
    EITHER,
    HOLE,
    IMAGES,
    LEFT_OUT,
    MASK,
    MASKS,
    PIXELS,
    RIGHT,
    UNPLANNED,
    WRONG,
    write_cases,
)

SHORT = 25
SIDE = 32  # of images and masks here
KINDS = {"image": (IMAGES, CULPRIT), "mask": (MASKS, MASK)}
ALL = {
    f"{kind}: {case}": expected
    for kind, (cases, _) in KINDS.items()
    for case, (_, expected) in cases.items()
}
CASES = [case for case, e in ALL.items() if e not in (UNPLANNED, LEFT_OUT)]
UNREAD = [case for case, expected in ALL.items() if expected == UNPLANNED]
NOTED = [case for case, expected in ALL.items() if expected == LEFT_OUT]
TARGETS = {"image": f"test_px{SIDE}.npz", "mask": f"masks_r{SIDE}.npz"}


def empty_project(folder) -> Project:
    """A project without data."""
    project = Project(folder)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    project.configure()
    return project


@pytest.fixture(scope="module")
def ran(tmp_path_factory, full):
    """One run of the pipeline over a class for each case; project, output, classes."""
    project = empty_project(tmp_path_factory.mktemp("files"))
    chosen = CASES[:: 1 if full else SHORT]
    names = {}
    for kind, (cases, culprit) in KINDS.items():
        wanted = {c: cases[c] for c in cases if f"{kind}: {c}" in chosen}
        made = write_cases(project.folder / "data", kind, wanted, culprit)
        names |= {f"{kind}: {case}": name for case, name in made.items()}
    before = listing(project.folder)
    targets = [target(case, name) for case, name in names.items()]
    run = project.snakemake(*targets, check=False)
    return project.folder, run.stdout + run.stderr, names, before


def target(case, name):
    return f"results/cache/own/{name}/{TARGETS[case.partition(':')[0]]}"


def listing(folder):
    return {
        path
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] not in ("results", ".snakemake")
    }


def test_a_file_is_read_right_or_refused_by_name(ran, case):
    """Image and mask files, each read right or refused in one line naming it."""
    folder, output, names, _ = ran
    name, expected = names[case], ALL[case]
    made = (folder / target(case, name)).exists()
    assert made or expected in (WRONG, EITHER)
    assert not made or expected in (RIGHT, EITHER)
    if made:
        assert_right(folder / target(case, name), case)
    else:
        assert_named(output, name)


def planned(folder, case):
    """A dry run over a class of one case."""
    project = empty_project(folder)
    kind, _, name = case.partition(": ")
    cases, culprit = KINDS[kind]
    write_cases(folder / "data", kind, {name: cases[name]}, culprit)
    return project.snakemake("--dry-run", check=False)


@pytest.mark.long
@pytest.mark.parametrize("unread", UNREAD)
def test_a_file_that_cannot_be_named_is_refused_while_planning(tmp_path, unread):
    """Files that cannot be planned with, each refused by name before anything runs."""
    run = planned(tmp_path, unread)
    kind = unread.partition(":")[0]
    assert run.returncode == 1
    assert f"data/{kind}_000/{Path(KINDS[kind][1]).parent}" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.long
@pytest.mark.parametrize("noted", NOTED)
def test_a_folder_in_the_place_of_an_image_is_noted(tmp_path, noted):
    """Folders named like an image, each left out with a line that names its mask."""
    run = planned(tmp_path, noted)
    assert run.returncode == 0
    assert f"data/image_000/{MASK}: is the mask of no image" in run.stderr


def assert_right(path, case):
    """The cached file has seven images or masks, that of the case as it should be."""
    kind = "images" if case.startswith("image") else "masks"
    arrays = np.load(path)
    assert arrays[kind].shape[:3] == (7, SIDE, SIDE)
    if ALL[case] == RIGHT:
        (place,) = np.flatnonzero(arrays["names"] == "hole/001.png")
        right = {"images": square(PIXELS, SIDE), "masks": resize_mask(HOLE > 0, SIDE)}
        assert np.array_equal(arrays[kind][place], right[kind])


def assert_named(output, name):
    lines = [line for line in output.splitlines() if f"data/{name}/" in line]
    assert any("error: " in line for line in lines), lines


def test_no_mistake_ends_in_a_traceback(ran):
    """No traceback in the output of all these cases."""
    assert "Traceback" not in ran[1]


def test_nothing_is_written_outside_results(ran):
    """Nothing written outside of results/ by all these cases, and no code run."""
    folder, _, _, before = ran
    assert listing(folder) == before
