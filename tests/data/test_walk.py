from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsad.data.layouts import find_images
from fsad.data.walk import IMAGE, OTHER, UNREADABLE, file_kind, walk


def draw(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, **options)
    return path


def listed(folder):
    return [file.path.relative_to(folder).as_posix() for file in walk(folder)]


KINDS = {
    "a.png": IMAGE,
    "a.webp": IMAGE,
    "a.jp2": IMAGE,
    "notes.txt": OTHER,
    "weights.pt": OTHER,
    "a.heic": UNREADABLE,
    "a.npy": UNREADABLE,
    "a.npz": UNREADABLE,
}


@pytest.mark.parametrize("name", KINDS)
def test_files_are_known_by_their_endings(name):
    assert file_kind(Path("nowhere", name)) == KINDS[name]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("limit", [1, 10])
def test_a_file_of_too_many_pixels_is_an_image(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert file_kind(draw(tmp_path / "image", format="png")) == IMAGE


def test_files_of_unknown_endings_are_known_by_their_content(tmp_path):
    assert file_kind(draw(tmp_path / "image", format="gif")) == IMAGE
    assert file_kind(draw(tmp_path / "image.2024-05-01", format="png")) == IMAGE
    (tmp_path / "README").write_text("Größe")
    (tmp_path / "data.xyz").write_bytes(bytes(range(99)))
    assert file_kind(tmp_path / "README") == OTHER
    assert file_kind(tmp_path / "data.xyz") == UNREADABLE


def test_links_are_followed_and_circles_end(tmp_path):
    draw(tmp_path / "all/0.png")
    draw(tmp_path / "line_2/1.png")
    (tmp_path / "all/line_2").symlink_to("../line_2")
    (tmp_path / "line_2/above").symlink_to("../all")
    (tmp_path / "all/itself").symlink_to("itself")
    (tmp_path / "all/gone.png").symlink_to("nowhere.png")
    found = listed(tmp_path / "all")
    assert found == ["0.png", "gone.png", "itself", "line_2/1.png"]


def test_what_other_programs_leave_is_passed_over(tmp_path):
    for name in ("@eaDir/a.png/S.jpg", ".thumbnails/a.png", "__MACOSX/._a.png"):
        draw(tmp_path / name)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (tmp_path / name).write_bytes(b"\0")
    draw(tmp_path / "@a.png")
    assert listed(tmp_path) == ["@a.png"]


HEAD = "image,class,score,threshold,normalised,anomalous,error\n"
HEADS = HEAD, "\ufeff" + HEAD.replace(",", ";"), HEAD.replace(",", "\t")
HEADS += ("image,score,threshold,anomalous,error\n",)


@pytest.mark.parametrize("head", HEADS)
def test_results_of_this_program_are_passed_over(tmp_path, head):
    for name in (
        "out/overlays/a.png",
        "out/maps/a.png.tiff",
        "results/runs/original/own/nut/k1/s1/cls/vis/a.png",
    ):
        draw(tmp_path / name)
    (tmp_path / "out/scores.csv").write_text(head, encoding="utf-8")
    draw(tmp_path / "out/mine.png")
    assert listed(tmp_path) == ["out/mine.png", "out/scores.csv"]


def test_folders_of_a_user_with_names_of_results_are_read(tmp_path):
    for name in ("runs/monday/a.png", "tables/b.png"):
        draw(tmp_path / name)
    assert listed(tmp_path) == ["runs/monday/a.png", "tables/b.png"]


def test_all_formats_that_pillow_reads_are_found(tmp_path):
    for ending in ("png", "webp", "gif", "jp2"):
        draw(tmp_path / f"a.{ending}")
    draw(tmp_path / "b", format="png")
    (tmp_path / "c.heic").write_bytes(b"\0")
    (tmp_path / "d.txt").write_text("-")
    np.save(tmp_path / "e.npy", np.zeros(3))
    assert list(find_images([tmp_path])) == [
        *("a.gif", "a.jp2", "a.png", "a.webp", "b", "c.heic", "e.npy")
    ]
