import math

import numpy as np
import pytest
import torch

from fsad.data.masks import IGNORED
from fsad.evaluation import metrics, tasks
from fsad.evaluation.streaming import Pictures
from fsad.evaluation.tasks import TASKS, Truth, device_auroc
from fsad.methods.base import Prediction
from fsad.methods.maps import full_maps, picture_map
from helpers import NEEDS_GPU

LABELS = np.array([0, 1, 0], np.uint8)
MASKS = np.zeros((3, 16, 16), np.uint8)
MASKS[1, 3:9, 10:] = 1
CPU, SIGMA = torch.device("cpu"), 2.0


def prediction():
    generator = torch.Generator().manual_seed(0)
    scores, maps = (torch.rand(shape, generator=generator) for shape in (3, (3, 4, 6)))
    return Prediction(scores, maps, {})


def test_images_are_ranked_by_their_scores():
    task, truth = TASKS["cls"], Truth(LABELS, None)
    scores = task.values(prediction())
    assert scores is not None
    expected = metrics.image_metrics(LABELS, scores.numpy())
    assert task.auroc(truth, CPU, SIGMA)(scores) == expected["image_auroc"]
    assert task.metrics(truth, scores.numpy(), SIGMA) == expected


def test_pixels_are_ranked_by_the_full_maps():
    task, truth = TASKS["seg"], Truth(LABELS, MASKS)
    maps = task.values(prediction())
    expected = metrics.pixel_metrics(MASKS, full_maps(maps.numpy(), 16, SIGMA))
    assert task.metrics(truth, maps.numpy(), SIGMA) == expected
    area = task.auroc(truth, CPU, SIGMA)(maps)
    assert area == pytest.approx(expected["pixel_auroc"], abs=1e-3)


def test_the_tasks_have_the_metrics_that_tables_expect():
    assert TASKS.keys() == metrics.METRICS.keys()


def one_picture_auroc(defective, scores):
    masks = defective.to(torch.uint8)
    return device_auroc(Pictures([masks], lambda index: scores))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_auroc_of_tensors_is_exactly_that_of_arrays(levels, device):
    generator = torch.Generator().manual_seed(levels)
    drawn = torch.randint(levels, (3, 40, 40), generator=generator) / levels
    defective = torch.rand(3, 40, 40, generator=generator) < 0.1 + 0.3 * drawn
    found = one_picture_auroc(defective.to(device), drawn.to(device))
    assert found == metrics.auroc(defective.numpy(), drawn.numpy())


def test_auroc_of_nan_is_refused():
    for defective in (True, False):
        masks = torch.tensor([defective, not defective])
        with pytest.raises(ValueError, match="nan"):
            one_picture_auroc(masks, torch.tensor([torch.nan, 0.5]))


@pytest.mark.parametrize("defective", [True, False])
def test_auroc_of_one_kind_alone_is_nan(defective):
    assert math.isnan(one_picture_auroc(torch.full((4,), defective), torch.rand(4)))
    assert math.isnan(device_auroc(Pictures([], None)))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_pixels_that_do_not_count_are_left_out(device):
    masks = MASKS.copy()
    masks[1, :5] = masks[2] = IGNORED
    task, maps = TASKS["seg"], prediction().maps.to(device)
    full = full_maps(maps.cpu().numpy(), 16, SIGMA)
    expected = metrics.auroc(masks[masks < 2], full[masks < 2])
    found = task.auroc(Truth(LABELS, masks), torch.device(device), SIGMA)(maps)
    assert found == pytest.approx(expected, abs=1e-2)
    values = task.metrics(Truth(LABELS, masks), maps.cpu().numpy(), SIGMA)
    assert values["pixel_auroc"] == expected


RAW = [np.zeros(shape, np.uint8) for shape in [(30, 20), (16, 40), (30, 20)]]
RAW[1][3:9, 10:] = 1
RAW[0][:, 5] = IGNORED


def test_pixels_of_pictures_of_several_sizes_are_ranked_by_their_own_maps():
    task, truth = TASKS["seg"], Truth(LABELS, RAW)
    maps = task.values(prediction())
    full = [
        picture_map(small, mask.shape, SIGMA)
        for small, mask in zip(maps.numpy(), RAW, strict=True)
    ]
    flat = [np.concatenate([x.ravel() for x in arrays]) for arrays in (RAW, full)]
    found = task.metrics(truth, maps.numpy(), SIGMA)
    assert found["pixel_auroc"] == metrics.pixel_auroc(*flat)
    assert found["pixel_auroc"] == task.auroc(truth, CPU, SIGMA)(maps)
    assert found.keys() == set(metrics.METRICS["seg"])


@NEEDS_GPU
@pytest.mark.parametrize("masks", [MASKS, RAW], ids=["one size", "several sizes"])
def test_pixels_on_a_gpu_are_ranked_as_on_the_cpu(masks):
    task, truth, maps = TASKS["seg"], Truth(LABELS, masks), prediction().maps
    found = task.auroc(truth, torch.device("cuda"), SIGMA)(maps.cuda())
    assert found == pytest.approx(task.auroc(truth, CPU, SIGMA)(maps), abs=1e-2)


def test_tensors_of_several_sizes_have_the_auroc_of_arrays():
    """As on a GPU."""
    masks, maps = [*map(torch.from_numpy, RAW)], prediction().maps
    found = device_auroc(tasks._own_sizes(masks, maps, SIGMA))
    expected = TASKS["seg"].auroc(Truth(LABELS, RAW), CPU, SIGMA)(maps)
    assert found == pytest.approx(expected, abs=1e-2)


def test_pictures_of_the_nominal_size_have_the_metrics_of_that_resolution():
    masks = MASKS.repeat(16, 1).repeat(16, 2)
    task, maps = TASKS["seg"], prediction().maps.numpy()
    found = task.metrics(Truth(LABELS, [*masks]), maps, SIGMA)
    assert found == pytest.approx(task.metrics(Truth(LABELS, masks), maps, SIGMA))
