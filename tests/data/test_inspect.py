import csv
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from fsad.data.inspect import check_data, find_layout
from fsad.errors import UserError
from fsad.planning.options import complete
from helpers import write_class


@pytest.fixture
def root(tmp_path):
    """A folder of one class without problems."""
    write_class(tmp_path / "parts", "nut")
    return tmp_path / "parts"


def problems(root):
    return check_data(root, 2).problems


def test_a_folder_without_problems_is_described_and_configured(root):
    report = check_data(root, 2)
    assert report.problems == []
    assert report.classes == [
        "nut: 4 good to learn from; test: 3 good, 2 hole, 2 scratch; 4 masks; "
        "40x40 pixels"
    ]
    assert report.options == {
        "results": "results/parts",
        "datasets": {"parts": {"layout": "folder", "root": str(root)}},
    }
    complete(yaml.safe_load(yaml.safe_dump(report.options)))


def test_a_class_without_masks_has_no_problems(root):
    shutil.rmtree(root / "nut/ground_truth")
    report = check_data(root, 1)
    assert report.problems == []
    assert "; no masks; " in report.classes[0]


def test_sizes_are_counted(root):
    for index, shape in enumerate([(5, 7), (6, 7), (8, 9)]):
        image = Image.fromarray(np.full((*shape, 3), index, np.uint8))
        image.save(root / f"nut/train/good/x{index}.png")
    assert "4 sizes from 7x5 to 40x40 pixels" in check_data(root, 1).classes[0]


SPOILED = {
    "unreadable image": (
        lambda nut: (nut / "train/good/000.png").write_bytes(b"no image"),
        "train/good/000.png: cannot be read as an image",
    ),
    "unreadable mask": (
        lambda nut: (nut / "ground_truth/hole/001_mask.png").write_bytes(b"no image"),
        "ground_truth/hole/001_mask.png: cannot be read as an image",
    ),
    "missing mask": (
        lambda nut: (nut / "ground_truth/hole/001_mask.png").unlink(),
        "test/hole/001.png: defect image without a mask",
    ),
    "mask of another size": (
        lambda nut: blank(nut / "ground_truth/hole/001_mask.png", (8, 8), 255),
        "ground_truth/hole/001_mask.png: mask is 8x8 pixels, its image 40x40",
    ),
    "empty mask": (
        lambda nut: blank(nut / "ground_truth/hole/001_mask.png", (40, 40), 0),
        "ground_truth/hole/001_mask.png: marks no pixel; draw the defect, or move",
    ),
    "mask of no image": (
        lambda nut: (nut / "test/hole/001.png").unlink(),
        "ground_truth/hole/001_mask.png: is the mask of no image; name it like",
    ),
    "image in no place": (
        lambda nut: blank(nut / "train/bad/1.png", (40, 40), 7),
        "train/bad/1.png: belongs to no class; images belong in CLASS/train/good",
    ),
    "foreign format": (
        lambda nut: (nut / "test/good/1.heic").write_bytes(b"heic"),
        "test/good/1.heic: is in a format that is not read; save it as .png",
    ),
    "nearly black image": (
        lambda nut: blank(nut / "test/good/1.webp", (40, 40), 7),
        "test/good/1.webp: is nearly black (brightest value 7 of 255)",
    ),
    "image of another aspect": (
        lambda nut: resize(nut / "test/good/001.png", (40, 30)),
        "test/good/001.png: is 40x30 pixels, of another aspect",
    ),
    "mask of everything": (
        lambda nut: blank(nut / "ground_truth/hole/001_mask.png", (40, 40), 255),
        "ground_truth/hole/001_mask.png: marks nearly all of its image",
    ),
    "mask of a good image": (
        lambda nut: blank(nut / "ground_truth/good/000.png", (40, 40), 255),
        "ground_truth/good/000.png: marks a defect in a good image",
    ),
    "test image to learn from": (
        lambda nut: shutil.copy(nut / "train/good/002.png", nut / "test/good/9.png"),
        "test/good/9.png: the same image as ",
    ),
    "nothing to learn from": (
        lambda nut: [path.unlink() for path in (nut / "train/good").iterdir()],
        "train/good: no good training image",
    ),
}


def blank(path, shape, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def resize(path, shape):
    Image.open(path).resize(shape).save(path)


@pytest.mark.parametrize("case", SPOILED)
def test_a_problem_names_its_file(root, case):
    spoil, message = SPOILED[case]
    spoil(root / "nut")
    (found,) = problems(root)
    assert found.startswith(f"{root / 'nut'}/{message}")


def test_an_image_beside_the_classes_is_a_problem(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    blank(root / "1.png", (4, 4), 7)
    (found,) = problems("parts")
    assert found.startswith("parts/1.png: belongs to no class")


def test_problems_of_a_folder_are_one_line(root):
    for index in range(5):
        blank(root / f"nut/train/bad/{index}.png", (4, 4), index)
    (found,) = problems(root)
    assert "train/bad/0.png (and 4 more): belongs to no class" in found


def test_problems_that_differ_in_numbers_are_one_line(root):
    for index in range(2):
        blank(root / f"nut/ground_truth/hole/00{index}_mask.png", (8, 8 + index), 255)
    (found,) = problems(root)
    assert (
        "hole/000_mask.png (and 1 more): mask is 8x8 pixels, its image 40x40" in found
    )


@pytest.mark.parametrize(
    ("name", "what"), [("{nut}", "curly"), ("n<u>t", "angle"), ("n\nt", "control")]
)
def test_a_name_that_no_class_may_have(root, name, what):
    (root / "nut").rename(root / name)
    assert f"{root / name}: has {what} " in problems(root)[0]


def test_classes_that_cannot_be_trained_are_left_out(root):
    write_class(root, "bolt", train=0)
    (root / "bolt/train/good").mkdir(parents=True)
    report = check_data(root, 1)
    assert len(report.problems) == 1
    assert report.options["datasets"]["parts"]["classes"] == ["nut"]


def test_few_training_images_lower_the_shots(root):
    write_class(root, "bolt", train=2)
    assert check_data(root, 1).options["shots"] == [1, 2]


def test_where_nothing_can_be_trained_nothing_is_configured(root):
    for path in (root / "nut/train/good").iterdir():
        path.unlink()
    assert check_data(root, 1).options == {}


def test_good_training_images_are_enough(root):
    shutil.rmtree(root / "nut/test")
    shutil.rmtree(root / "nut/ground_truth")
    report = check_data(root, 1)
    assert report.problems == []
    assert "test: none; no masks" in report.classes[0]
    assert report.options["datasets"]


@pytest.mark.parametrize(
    ("below", "message"),
    [
        ("nut", "nut: is one class; name the folder that holds it"),
        ("nut/test", "test: holds no CLASS/train/good; lay the images out as"),
        ("..", "the classes lie deeper; name "),
    ],
)
def test_another_folder_than_that_of_the_classes(root, below, message):
    (found,) = problems(root / below)
    assert message in found


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "absent")):
        check_data(tmp_path / "absent", 1)


def test_known_classes_determine_the_layout_and_the_prompts(tmp_path):
    for name in ("bottle", "metal_nut"):
        write_class(tmp_path, name, train=4)
    source = check_data(tmp_path, 1).options["datasets"].popitem()[1]
    assert source["layout"] == "mvtec"
    assert source["prompts"] == "mvtec"
    write_class(tmp_path, "own")
    assert find_layout(tmp_path) == ("folder", ["bottle", "metal_nut", "own"])


def test_prepared_visa_is_known_by_its_folder(tmp_path):
    write_class(tmp_path / "1cls", "pcb1")
    report = check_data(tmp_path, 1)
    assert report.problems == []
    assert report.options["datasets"].popitem()[1]["layout"] == "visa"


def test_downloaded_visa_is_known_by_its_table(tmp_path):
    write_class(tmp_path, "pcb1", defects=("bad",), each=1)
    table = [("object", "split", "label", "image", "mask")]
    for index in range(4):
        good = ("pcb1", "train", "normal", f"pcb1/train/good/{index:03}.png", "")
        table.append(good)
    table.append(("pcb1", "test", "normal", "pcb1/test/good/000.png", ""))
    mask = "pcb1/ground_truth/bad/000_mask.png"
    table.append(("pcb1", "test", "anomaly", "pcb1/test/bad/000.png", mask))
    (tmp_path / "split_csv").mkdir()
    with open(tmp_path / "split_csv/1cls.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)
    report = check_data(tmp_path, 1)
    assert report.problems == []
    assert report.classes[0].startswith("pcb1: 4 good to learn from; test: 1 bad, 1 g")
    (tmp_path / "pcb1/test/good/000.png").unlink()
    (found,) = check_data(tmp_path, 1).problems
    assert "pcb1/test/good/000.png: cannot be read" in found
