import csv
import errno
import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from fsad.data.layouts import find_images, list_class, list_classes, root_notes
from fsad.errors import UserError
from helpers import write_class


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


def names(samples):
    return [sample.name for sample in samples]


@pytest.fixture
def folder(tmp_path):
    """The smallest class that can be evaluated."""
    for name in ("train/good/a.png", "test/good/a.png", "test/dent/a.png"):
        draw(tmp_path / "nut" / name)
    return tmp_path / "nut"


def visa_download(root, rows):
    """Write the original VisA layout; rows of (split, label, image, mask)."""
    table = [("object", "split", "label", "image", "mask")]
    for split, label, image, mask in rows:
        for path in filter(None, (image, mask)):
            draw(root / path)
        table.append(("nut", split, label, image, mask))
    (root / "split_csv").mkdir()
    with open(root / "split_csv/1cls.csv", "w", newline="") as file:
        csv.writer(file).writerows(table)


def test_mvtec_lists_train_and_test_sorted_by_name(tmp_path):
    write_class(tmp_path, "nut", train=2, good=1, defects=("hole", "dent"), each=2)
    files = list_class("mvtec", tmp_path, "nut")
    assert names(files.train) == ["good/000.png", "good/001.png"]
    assert names(files.test) == [
        *("dent/000.png", "dent/001.png"),
        "good/000.png",
        *("hole/000.png", "hole/001.png"),
    ]
    assert [sample.label for sample in files.test] == [1, 1, 0, 1, 1]


def test_a_name_that_repeats_across_defects_keeps_its_own_mask(tmp_path):
    folder = write_class(tmp_path, "nut", defects=("dent", "hole"), each=1)
    masks = {s.name: s.mask for s in list_class("mvtec", tmp_path, "nut").test}
    assert masks["dent/000.png"] == folder / "ground_truth/dent/000_mask.png"
    assert masks["hole/000.png"] == folder / "ground_truth/hole/000_mask.png"
    assert masks["good/000.png"] is None


@pytest.mark.parametrize("mask", ["a_mask.png", "a.png", "a.BMP", "a_mask.TIF"])
def test_masks_are_found_with_and_without_suffix(folder, mask):
    draw(folder / "test/dent/a.JPG")
    path = draw(folder / "ground_truth/dent" / mask)
    assert list_class("folder", folder.parent, "nut").mask_files[0] == path


def test_extensions_may_be_mixed_in_kind_and_case(folder):
    for name in ("b.JPG", "c.jpeg", "d.Bmp", "e.tif", "f.TIFF"):
        draw(folder / "train/good" / name)
    listed = names(list_class("folder", folder.parent, "nut").train)
    assert [name.partition("/")[2] for name in listed] == [
        *("a.png", "b.JPG", "c.jpeg", "d.Bmp", "e.tif", "f.TIFF")
    ]


@pytest.mark.parametrize("name", ["notes.txt", "Thumbs.db", "._a.png"])
def test_other_files_are_passed_over(folder, name):
    (folder / "train/good" / name).write_bytes(b"")
    assert names(list_class("mvtec", folder.parent, "nut").train) == ["good/a.png"]


def test_without_ground_truth_there_are_no_masks(folder):
    files = list_class("folder", folder.parent, "nut")
    assert not files.has_masks
    assert files.mask_files == []


def test_with_ground_truth_there_are_masks(tmp_path):
    write_class(tmp_path, "nut")
    assert list_class("mvtec", tmp_path, "nut").has_masks


@pytest.mark.parametrize("below", ["", "1cls"])
def test_visa_prepared(tmp_path, below):
    write_class(tmp_path / below, "nut", train=2, good=1, defects=("bad",), each=1)
    files = list_class("visa", tmp_path, "nut")
    assert names(files.test) == ["bad/000.png", "good/000.png"]
    assert files.mask_files == [tmp_path / below / "nut/ground_truth/bad/000_mask.png"]
    assert list_classes("visa", tmp_path) == ["nut"]


def test_visa_download_follows_its_split(tmp_path):
    good, bad = "nut/Data/Images/Normal", "nut/Data/Images/Anomaly"
    rows = [
        ("train", "normal", f"{good}/1.JPG", ""),
        ("train", "normal", f"{good}/0.JPG", ""),
        ("test", "normal", f"{good}/2.JPG", ""),
        ("test", "anomaly", f"{bad}/0.JPG", "nut/Data/Masks/Anomaly/0.png"),
    ]
    visa_download(tmp_path, rows)
    files = list_class("visa", tmp_path, "nut")
    assert names(files.train) == ["Normal/0.JPG", "Normal/1.JPG"]
    assert names(files.test) == ["Anomaly/0.JPG", "Normal/2.JPG"]
    assert [sample.label for sample in files.test] == [1, 0]
    assert files.mask_files == [tmp_path / "nut/Data/Masks/Anomaly/0.png"]
    assert list_classes("visa", tmp_path) == ["nut"]


def test_visa_download_learns_from_no_defect(tmp_path):
    rows = [
        ("train", "normal", "nut/n/0.JPG", ""),
        ("train", "anomaly", "nut/a/0.JPG", "nut/m/0.png"),
        ("test", "normal", "nut/n/1.JPG", ""),
        ("test", "anomaly", "nut/a/1.JPG", "nut/m/1.png"),
    ]
    visa_download(tmp_path, rows)
    assert names(list_class("visa", tmp_path, "nut").train) == ["n/0.JPG"]


def test_visa_download_without_the_class(tmp_path):
    visa_download(tmp_path, [("train", "normal", "nut/n/0.JPG", "")])
    with pytest.raises(UserError, match=str(tmp_path / "bolt")):
        list_class("visa", tmp_path, "bolt")


def test_classes_are_listed_by_name(tmp_path):
    for name in ("nut", "bolt"):
        write_class(tmp_path, name, train=1)
    (tmp_path / "licence").mkdir()
    assert list_classes("mvtec", tmp_path) == ["bolt", "nut"]


def test_missing_data_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path / "absent")):
        list_class("mvtec", tmp_path / "absent", "nut")


def test_missing_class_is_named_with_those_there(folder):
    root = folder.parent
    with pytest.raises(UserError, match=f"{root / 'bolt'}.*holds nut"):
        list_class("mvtec", root, "bolt")


def test_a_class_without_training_images_is_named(folder):
    (folder / "train/good/a.png").unlink()
    with pytest.raises(UserError, match=f"{folder}/train/good: no good training image"):
        list_class("mvtec", folder.parent, "nut")


@pytest.mark.parametrize("absent", ["test", "test/good", "test/dent"])
def test_training_needs_no_test_images(folder, absent):
    shutil.rmtree(folder / absent)
    files = list_class("mvtec", folder.parent, "nut")
    assert len(files.train) == 1
    assert files.has_seg == (absent != "test/good")  # a defect has no mask


def test_defective_images_with_masks_alone_have_pixel_metrics(folder):
    shutil.rmtree(folder / "test/good")
    draw(folder / "ground_truth/dent/a.png")
    assert list_class("mvtec", folder.parent, "nut").has_seg


def test_visa_download_with_an_unknown_split_is_named(tmp_path):
    visa_download(tmp_path, [("val", "normal", "nut/n/0.JPG", "")])
    with pytest.raises(UserError, match=r"1cls\.csv.*line 2: split 'val'"):
        list_class("visa", tmp_path, "nut")


HEAD = "object,split,label,image,mask"
NOT_VISA = [
    ("class,split\nnut,train", "line 2 has not the columns object, split, label"),
    (f"{HEAD}\na,train,normal,a.png,".replace(",", ";"), "between commas"),
    (f"{HEAD}\na,train,normal,a.png", "line 2 has not"),
    (f"{HEAD}\na,train,normal,a,b.png,", "line 2 has not"),
    (f"{HEAD}\n{'a' * 2**18}", "field larger than field limit"),
    (HEAD, "lists no image"),
]


@pytest.mark.parametrize(("text", "message"), NOT_VISA)
def test_visa_download_with_another_table_is_named(tmp_path, text, message):
    visa_download(tmp_path, [])
    (tmp_path / "split_csv/1cls.csv").write_text(text)
    with pytest.raises(UserError, match=rf"1cls\.csv: .*{message}"):
        list_classes("visa", tmp_path)


def test_visa_download_with_a_byte_order_mark(tmp_path):
    visa_download(tmp_path, [("train", "normal", "nut/n/0.JPG", "")])
    table = tmp_path / "split_csv/1cls.csv"
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert list_classes("visa", tmp_path) == ["nut"]


@pytest.fixture
def belt(tmp_path):
    """Images of two days, and other files."""
    for name in ("belt/mon/b.png", "belt/mon/a.JPG", "belt/tue/a.png"):
        draw(tmp_path / name)
    (tmp_path / "belt/tue/notes.txt").write_text("-")
    (tmp_path / "belt/tue/.b.png").write_text("-")
    (tmp_path / "belt/tue/thumbs.png").mkdir()
    return tmp_path / "belt"


def test_images_of_a_folder_are_named_from_there(belt):
    found = find_images([belt])
    assert list(found) == ["mon/a.JPG", "mon/b.png", "tue/a.png"]
    assert all(path == belt / name for name, path in found.items())


def test_images_of_several_folders_and_files_have_names_of_their_own(belt):
    found = find_images([belt / "tue/a.png", belt / "mon", belt / "mon/a.JPG"])
    assert list(found) == ["mon/a.JPG", "mon/b.png", "tue/a.png"]


def test_a_single_file_has_its_own_name_whatever_it_is(belt):
    assert list(find_images([belt / "tue/notes.txt"])) == ["notes.txt"]
    assert list(find_images([belt / "tue/gone.png"])) == ["gone.png"]


def test_a_folder_without_images_is_named(belt):
    (belt / "wed").mkdir()
    with pytest.raises(UserError, match=f"{belt / 'wed'}: holds no image"):
        find_images([belt / "mon", belt / "wed"])


@pytest.mark.parametrize("name", ["{a}.png", "b}.png"])
def test_curly_brackets_in_a_name_are_refused(folder, name):
    draw(folder / "train/good" / name)
    with pytest.raises(UserError, match=r"good/.*: has curly brackets in its name"):
        list_class("folder", folder.parent, "nut")


def test_a_name_that_is_not_utf8_is_refused(folder):
    os.rename(
        draw(folder / "test/dent/b.png"),
        os.fsencode(folder / "test/dent") + b"/\xff.png",
    )
    with pytest.raises(UserError, match=r"udcff\.png.*not in UTF-8"):
        list_class("folder", folder.parent, "nut")


def test_angle_brackets_in_the_name_of_a_class_are_refused(tmp_path):
    """Snakemake reads <new> in paths."""
    write_class(tmp_path, "nut <new>", defects=())
    message = "nut <new>: has angle brackets in its name; rename it"
    with pytest.raises(UserError, match=message):
        list_class("folder", tmp_path, "nut <new>")


def test_a_class_is_not_called_like_the_row_of_means(tmp_path):
    write_class(tmp_path, "mean", defects=())
    with pytest.raises(UserError, match="mean: has the name of a row of the tables"):
        list_class("folder", tmp_path, "mean")


@pytest.mark.parametrize("name", ["螺丝", "A&B|50%_#1 $x^2$"])
def test_names_of_classes_in_other_scripts_and_signs(tmp_path, name):
    write_class(tmp_path, name, defects=())
    assert list_classes("folder", tmp_path) == [name]
    assert list_class("folder", tmp_path, name).notes == []


@pytest.mark.parametrize(("closed", "root"), [("nut/train", ""), ("nut", "nut/train")])
def test_a_folder_that_may_not_be_entered_is_named(folder, monkeypatch, closed, root):
    above, stat = folder.parent, os.stat

    def forbidding(path, **options):
        if above / closed in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", forbidding)
    message = f"{above / closed}/.*: cannot be read .Permission denied"
    with pytest.raises(UserError, match=message):
        list_classes("folder", above / root)


@pytest.mark.parametrize("hidden", ["__MACOSX", "@eaDir", ".trash", "lost+found"])
def test_folders_that_other_programs_leave_hold_no_images(tmp_path, hidden):
    folder = write_class(tmp_path, "nut")
    listed = list_class("folder", tmp_path, "nut")
    for place in ("train", "train/good", "test", "ground_truth", "ground_truth/hole"):
        draw(folder / place / hidden / "000-checkpoint.png")
    draw(tmp_path / hidden / "train/good/0.png")
    assert list_class("folder", tmp_path, "nut") == listed
    assert list_classes("folder", tmp_path) == ["nut"]


def test_names_are_the_same_in_all_unicode_forms(tmp_path):
    composed = unicodedata.normalize("NFC", "Gehäuse")
    decomposed = unicodedata.normalize("NFD", composed)
    folder = write_class(tmp_path, decomposed, defects=(decomposed,), each=1)
    image = folder / "test" / decomposed / "000.png"
    image.rename(image.with_name(f"{decomposed}.png"))
    mask = folder / "ground_truth" / decomposed / "000_mask.png"
    (folder / "ground_truth" / composed).mkdir()
    renamed = mask.rename(folder / "ground_truth" / composed / f"{composed}_mask.png")
    assert list_classes("folder", tmp_path) == [composed]
    for name in (composed, decomposed):
        files = list_class("folder", tmp_path, name)
        assert files.mask_files == [renamed]
        assert files.test[0].name == f"{decomposed}/{decomposed}.png"
        assert files.notes == []


def test_two_classes_of_one_name_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        write_class(tmp_path, unicodedata.normalize(form, "ä"), defects=())
    with pytest.raises(UserError, match="two folders have this name"):
        list_classes("folder", tmp_path)


def test_two_images_of_one_name_are_refused(folder):
    for form in ("NFC", "NFD"):
        draw(folder / "test/dent" / f"{unicodedata.normalize(form, 'ä')}.png")
    draw(folder / "ground_truth/dent/ä.png")
    with pytest.raises(UserError, match=r"dent/.*: another file has this name, "):
        list_class("folder", folder.parent, "nut")


MASKS = {
    "beside": ["test/dent/a_mask.png"],
    "beside, called label": ["test/dent/a_label.BMP"],
    "numbered": ["ground_truth/dent/a_mask_0.png", "ground_truth/dent/a_mask_1.png"],
    "in a folder": ["ground_truth/dent/a/000.png", "ground_truth/dent/a/001.png"],
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_in_other_places(folder, case):
    paths = [draw(folder / name) for name in MASKS[case]]
    files = list_class("folder", folder.parent, "nut")
    assert files.mask_files == paths
    assert names(files.test) == ["dent/a.png", "good/a.png"]
    assert files.notes == []


def test_polygons_are_masks_of_images_without_others(folder):
    path = folder / "test/dent/a.json"
    path.write_text(json.dumps({"camera": 1}))
    assert list_class("folder", folder.parent, "nut").mask_files == []
    path.write_text(json.dumps({"shapes": []}))
    assert list_class("folder", folder.parent, "nut").mask_files == [path]
    mask = draw(folder / "ground_truth/dent/a.png")
    assert list_class("folder", folder.parent, "nut").mask_files == [mask]


@pytest.mark.parametrize("name", ["test/dent/a_mask.npy", "ground_truth/dent/a.npy"])
def test_arrays_are_masks_where_they_are_called_so(folder, name):
    (folder / "test/dent/a.npy").write_bytes(b"")
    (note,) = list_class("folder", folder.parent, "nut").notes
    assert note.startswith(f"{folder}/test/dent/a.npy: is in a format that is not read")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    files = list_class("folder", folder.parent, "nut")
    assert files.mask_files == [path]
    assert files.notes == [note]


def test_a_second_mask_of_another_form_is_left_out(folder):
    best = draw(folder / "ground_truth/dent/a_mask.png")
    other = draw(folder / "ground_truth/dent/a.png")
    files = list_class("folder", folder.parent, "nut")
    assert files.mask_files == [best]
    (note,) = files.notes
    assert note.startswith(f"{other}: is left out, its image has another mask")


LEFT = {
    "a deeper folder": ("train/good/deep", ".png", "belongs to no class; images"),
    "another format": ("train/good", ".heic", "is in a format that is not read"),
    "an array": ("test/dent", ".npy", "is in a format that is not read"),
    "a mask of no image": ("ground_truth/dent", ".png", "is the mask of no image"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_out_is_one_note_a_kind(folder, case):
    place, ending, why = LEFT[case]
    (folder / place).mkdir(parents=True, exist_ok=True)
    for index in range(3):
        (folder / place / f"{index}{ending}").write_bytes(b"")
    (folder / place / "licence.txt").write_text("-")
    (note,) = list_class("folder", folder.parent, "nut").notes
    assert note.startswith(f"{folder / place}/0{ending} (and 2 more): {why}")


def test_defect_images_without_masks_are_noted_where_others_have_some(folder):
    draw(folder / "test/dent/b.png")
    assert list_class("folder", folder.parent, "nut").notes == []
    draw(folder / "ground_truth/dent/a.png")
    (note,) = list_class("folder", folder.parent, "nut").notes
    assert note.startswith(f"{folder}/test/dent/b.png: defect image without a mask")


def test_a_kind_that_may_be_meant_as_good_is_noted(folder):
    (folder / "test/good").rename(folder / "test/OK")
    (note,) = list_class("folder", folder.parent, "nut").notes
    assert "test/OK/a.png: counts as defective; if it is not" in note


def test_images_beside_the_classes_are_noted(folder):
    draw(folder.parent / "more/1.png")
    (note,) = root_notes("folder", folder.parent, ["nut"])
    assert note.startswith(f"{folder.parent}/more/1.png: belongs to no class")
