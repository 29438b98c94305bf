import os

import pytest

from fsad.artifacts.names import file_names


def of(*names):
    """Files for images, as overlays have them."""
    return file_names({n: n if n.endswith(".png") else f"{n}.png" for n in names})


def test_plain_names_stay():
    assert of("a.png", "b/a.png", "b/a.jpg") == {
        "a.png": "a.png",
        "b/a.png": "b/a.png",
        "b/a.jpg": "b/a.jpg.png",
    }


@pytest.mark.parametrize("letter", ["a", "ä", "字", "\udcff"])
def test_long_names_are_shortened_and_stay_different(tmp_path, letter):
    long = letter * (250 // len(os.fsencode(letter)))
    names = [f"b/{long}", f"b/{long}.jpg"]
    found = of(*names).values()
    assert len({*found}) == 2
    for path in found:
        assert path.startswith("b/") and path.endswith(".png")
        temporary = f".{path.removeprefix('b/')}.4194304.tmp"
        assert len(os.fsencode(temporary)) <= 255
        (tmp_path / temporary).touch()


@pytest.mark.parametrize(
    "names",
    [
        ("a.jpg", "a.jpg.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("a.jpg", "a.jpg.png/b.png"),
    ],
    ids=["added suffix", "Unicode form", "file and folder"],
)
def test_images_that_want_the_same_file_have_one_each(tmp_path, names):
    found = of(*names)
    assert found == of(*reversed(names))
    assert len({*found.values()}) == 2
    for path in found.values():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch(exist_ok=False)
