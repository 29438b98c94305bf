import numpy as np

from fsad.data.overlay import overlay, png_name


def test_heat_goes_from_blue_to_red():
    image, heat = np.full((1, 2, 3), 100, np.uint8), np.array([[0.0, 1.0]])
    cold, hot = overlay(image, heat)[0].astype(int)
    assert cold[2] > 100 > cold[0]
    assert hot[0] > 100 > hot[2]


def test_pictures_are_png_files():
    assert png_name("good/000.png") == "good/000.png"
    assert png_name("dent/a.JPG") == "dent/a.JPG.png"
