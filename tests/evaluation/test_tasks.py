import math

import numpy as np
import pytest
import torch

from fsad.evaluation import metrics
from fsad.evaluation.tasks import TASKS, Truth, device_auroc
from fsad.methods.base import Prediction
from fsad.methods.maps import full_maps
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


@NEEDS_GPU
def test_pixels_on_a_gpu_are_ranked_as_on_the_cpu():
    task, truth, maps = TASKS["seg"], Truth(LABELS, MASKS), prediction().maps
    found = task.auroc(truth, torch.device("cuda"), SIGMA)(maps.cuda())
    assert found == pytest.approx(task.auroc(truth, CPU, SIGMA)(maps), abs=1e-2)


def test_the_tasks_have_the_metrics_that_tables_expect():
    assert TASKS.keys() == metrics.METRICS.keys()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_auroc_of_tensors_is_exactly_that_of_arrays(levels, device):
    generator = torch.Generator().manual_seed(levels)
    drawn = torch.randint(levels, (3, 40, 40), generator=generator) / levels
    defective = torch.rand(3, 40, 40, generator=generator) < 0.1 + 0.3 * drawn
    found = device_auroc(defective.to(device), drawn.to(device))
    assert found == metrics.auroc(defective.numpy(), drawn.numpy())


def test_auroc_of_nan_is_refused():
    defective, values = torch.tensor([True, False]), torch.tensor([torch.nan, 0.5])
    with pytest.raises(ValueError, match="nan"):
        device_auroc(defective, values)


@pytest.mark.parametrize("defective", [True, False])
def test_auroc_of_one_kind_alone_is_nan(defective):
    assert math.isnan(device_auroc(torch.full((4,), defective), torch.rand(4)))
