"""The demo data: reproducible, well formed, exactly masked, hard for raw pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image

from fsad.data.layouts import GOOD, list_class, list_classes
from fsad.data.words import check_state
from fsad.demo import dataset
from fsad.demo.dataset import CLASSES, DEFECTS, PROMPTS, generate, render
from fsad.demo.drawing import VISIBLE
from fsad.evaluation.metrics import auroc

SMALL = {"train": 1, "good": 1, "defect": 1}
KINDS = [(name, kind) for name in CLASSES for kind in DEFECTS[name]]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    generate(root, train=4, good=6, defect=3)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small")
    generate(root, **SMALL)
    return root


def test_another_seed_changes_every_file(small, tmp_path):
    generate(tmp_path, seed=1, **SMALL)
    ours, others = file_bytes(small), file_bytes(tmp_path)
    assert ours.keys() == others.keys()
    assert all(ours[path] != others[path] for path in ours)


def test_a_seed_gives_the_same_bytes_whatever_the_counts(small, data):
    assert file_bytes(small).items() <= file_bytes(data).items()


def test_images_of_a_class_all_differ(data):
    for name in CLASSES:
        images = [path.read_bytes() for path in data.glob(f"{name}/t*/*/*.png")]
        assert len(set(images)) == len(images)


def test_numbers_of_images(monkeypatch):
    written = {}
    monkeypatch.setattr(
        dataset,
        "write_class",
        lambda folder, counts, *_: written.update({folder: counts}),
    )
    generate(Path("demo"))
    for name in CLASSES:
        expected = {"train/good": 12, "test/good": 16}
        expected |= {f"test/{kind}": 8 for kind in DEFECTS[name]}
        assert written.pop(Path("demo", name)) == expected
    assert not written


def test_the_layout_is_that_of_mvtec(data):
    assert list_classes("mvtec", data) == sorted(CLASSES)
    for name in CLASSES:
        files = list_class("mvtec", data, name)
        assert len(files.train) == 4
        expected = {GOOD: 6, **dict.fromkeys(DEFECTS[name], 3)}
        assert sorted(sample.name for sample in files.test) == sorted(
            f"{kind}/{i:03}.png"
            for kind, count in expected.items()
            for i in range(count)
        )
        assert len(files.mask_files) == 3 * len(DEFECTS[name])


def test_two_textures_and_two_objects_of_three_defects(small):
    assert len(CLASSES) == 4
    for name in CLASSES:
        kinds = {path.name for path in (small / name / "ground_truth").iterdir()}
        assert len(kinds) == 3
        assert kinds == set(DEFECTS[name])


def test_prompts_have_a_state_for_each_defect():
    assert tuple(PROMPTS) == CLASSES
    for name, prompts in PROMPTS.items():
        phrases = [check_state(state).format("") for state in prompts["states"]]
        assert phrases == [f" with a {k.replace('_', ' ')}" for k in DEFECTS[name]]
    assert PROMPTS["woven_fabric"]["text"] == "woven fabric"
    assert PROMPTS["woven_fabric"]["states"][0] == "{} with a hole"


def test_images_are_rgb_and_one_class_is_not_square(small):
    sizes = {}
    for name in CLASSES:
        images = [Image.open(path) for path in small.glob(f"{name}/t*/*/*.png")]
        assert {image.mode for image in images} == {"RGB"}
        (sizes[name],) = {image.size for image in images}
    assert [name for name, (w, h) in sizes.items() if w != h] == ["blister_pack"]


def test_masks_are_binary_and_of_the_size_of_their_image(data):
    for name in CLASSES:
        for sample in list_class("mvtec", data, name).test:
            if sample.label:
                mask = Image.open(sample.mask)
                assert mask.mode == "L"
                assert mask.size == Image.open(sample.path).size
                assert set(np.unique(mask)) == {0, 255}
                assert 0.005 < np.mean(np.asarray(mask) > 0) < 0.08, sample.name


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_the_mask_holds_exactly_the_changed_pixels(name, kind, seed):
    good, empty = render(name, GOOD, default_rng(seed))
    image, mask = render(name, kind, default_rng(seed))
    change = cv2.absdiff(image, good).max(-1)
    assert not empty.any()
    assert (change[mask == 0] == 0).all()
    assert (change[mask == 255] >= VISIBLE).all()
    assert change[mask == 255].mean() > 20  # clearly visible


def test_raw_patches_detect_poorly(data):
    aurocs = [raw_patch_auroc(data, name) for name in CLASSES]
    assert np.mean(aurocs) < 85


def raw_patch_auroc(root: Path, name: str) -> float:
    """Image AUROC of the largest distance of a patch to those of 4 good images."""
    files = list_class("mvtec", root, name)
    support = np.concatenate([raw_patches(sample.path) for sample in files.train[:4]])
    scores = [nearest(raw_patches(s.path), support).max() for s in files.test]
    return auroc(np.array([s.label for s in files.test]), np.array(scores))


def raw_patches(path: Path) -> np.ndarray:
    """Patches of 8x8 pixels of the image at 128x128, float32 [256, 192], 0 to 1."""
    image = np.asarray(Image.open(path))
    image = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
    patches = image.reshape(16, 8, 16, 8, 3).swapaxes(1, 2).reshape(256, 192)
    return patches.astype(np.float32) / 255


def nearest(patches: np.ndarray, support: np.ndarray) -> np.ndarray:
    squares = (patches**2).sum(1)[:, None] + (support**2).sum(1)
    return np.sqrt((squares - 2 * patches @ support.T).min(1).clip(0))


def file_bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.png")}
