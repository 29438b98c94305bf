from collections import Counter

import numpy as np
import pytest
import torch

from fsad.backbones.features import FeatureSet
from fsad.evaluation.observe import observe, observe_each, predict
from fsad.methods.base import Prediction
from fsad.methods.patches import upsample

SHAPES = {0: (2, 3), 1: (4, 2)}  # grids of two shapes of images
# Of a block: number of its shape, and rows in the set.
BLOCKS = [(0, [0, 3]), (0, [5]), (1, [4, 1]), (1, [2])]


class Constant:
    """A detector whose values of an image are its number, times a factor."""

    def __init__(self, factor=1.0, scores=True):
        self.factor, self.scores, self.seen = factor, scores, []

    def observe(self, features):
        self.seen.append(len(features["patch"]))
        return {"maps": self.factor * torch.as_tensor(features["patch"])}

    def predict(self, observed):
        maps = observed["maps"]
        scores = maps.amax((1, 2)) if self.scores else None
        return Prediction(scores, maps, {"twice": 2 * maps, "peak": maps.amax((1, 2))})


def feature_set(blocks, count):
    """Features of a set: maps of an image are its row."""

    def read():
        filled = Counter()
        for shape, rows in blocks:
            rows = np.array(rows, int)
            maps = np.broadcast_to(rows[:, None, None], (len(rows), *SHAPES[shape]))
            some = slice(filled[shape], filled[shape] + len(rows))
            filled[shape] = some.stop
            yield shape, some, {"patch": maps.astype(np.float32)}

    labels, names = np.zeros(count, np.uint8), np.array([str(i) for i in range(count)])
    shapes = range(1 + max((shape for shape, _ in blocks), default=0))
    places = [[r for s, rows in blocks if s == shape for r in rows] for shape in shapes]
    return FeatureSet(labels, names, [np.array(p, int) for p in places], read)


def test_blocks_of_one_shape_are_joined_in_order():
    features = feature_set([(0, [0, 1]), (0, [2])], 3)
    ((observed,),) = observe([Constant()], features, observe_each)
    rows, values = observed
    assert rows.tolist() == [0, 1, 2]
    assert values["maps"].shape == (3, 2, 3)
    prediction = predict(Constant(), [observed], 8)
    assert prediction.scores.tolist() == [0, 1, 2]
    assert torch.equal(prediction.maps, values["maps"])  # on the grid of patches


def test_several_shapes_merge_in_the_order_of_the_set():
    (observed,) = observe([Constant()], feature_set(BLOCKS, 6), observe_each)
    assert [rows.tolist() for rows, _ in observed] == [[0, 3, 5], [4, 1, 2]]
    found = predict(Constant(), observed, 8)
    assert found.scores.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.components["peak"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.maps.shape == found.components["twice"].shape == (6, 8, 8)
    for row in range(6):
        assert found.maps[row].numpy() == pytest.approx(row, rel=1e-6)
        assert found.components["twice"][row].numpy() == pytest.approx(2 * row)


def test_maps_of_several_shapes_are_interpolated_and_not_smoothed():
    class Noise(Constant):
        def predict(self, observed):
            generator = torch.Generator().manual_seed(observed["maps"].shape[1])
            maps = torch.rand(observed["maps"].shape, generator=generator)
            return Prediction(None, maps, {})

    (observed,) = observe([Noise()], feature_set(BLOCKS, 6), observe_each)
    found = predict(Noise(), observed, 8)
    assert found.scores is None
    for rows, values in observed:
        expected = upsample(Noise().predict(values).maps, 8, sigma=0)
        assert torch.equal(found.maps[torch.from_numpy(rows)], expected)


def test_features_are_read_once_for_all_detectors():
    reads, features = [], feature_set(BLOCKS, 6)

    def counted():
        reads.append(1)
        return features.blocks()

    detectors = [Constant(), Constant(10.0)]
    known = features._replace(blocks=counted)
    first, second = observe(detectors, known, observe_each)
    assert reads == [1]
    assert [detector.seen for detector in detectors] == [[2, 1, 2, 1]] * 2
    for (rows, ours), (others, theirs) in zip(first, second, strict=True):
        assert rows.tolist() == others.tolist()
        assert torch.equal(10 * ours["maps"], theirs["maps"])


def test_a_set_without_images_has_a_prediction_of_none():
    (observed,) = observe([Constant()], feature_set([(0, [])], 0), observe_each)
    assert predict(Constant(scores=False), observed, 8).maps.shape == (0, 2, 3)
