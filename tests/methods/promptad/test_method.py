import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fsad.backbones import clip_text
from fsad.errors import UserError
from fsad.methods.base import Text
from fsad.methods.promptad import method
from helpers import OPTIONS, relative_error

TASKS = ("cls", "seg")
KEY = (1, 2)  # seed of the run, number of its class


def random_features(images, seed):
    """Features as those of the tiny CLIP, float32."""
    shapes = {"global": (24,), "patch": (4, 4, 24)}
    shapes |= {"mid1": (4, 4, 32), "mid2": (4, 4, 32)}
    generator = np.random.default_rng(seed)
    arrays = {n: generator.normal(size=(images, *s)) for n, s in shapes.items()}
    return {
        name: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        for name, x in arrays.items()
    }


SUPPORT, TEST = random_features(2, seed=0), random_features(5, seed=1)


@pytest.fixture(scope="module")
def make(towers, tokens):
    """Makes the method for a task."""

    def make(task, **changed):
        return method.create(task, OPTIONS | changed, Text(towers[1], tokens))

    return make


@pytest.fixture(scope="module")
def detectors(make):
    """Two detectors of one fit by task, after epochs 2 and 4."""
    steps = {task: list(make(task, lr=0.2).fit(SUPPORT, KEY)) for task in TASKS}
    return {task: [s.detector for s in steps[task] if s.detector] for task in TASKS}


def numpy_of(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def assert_equal(found, expected):
    """The same names and bits, nested or not."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_equal(found[name], value)
    elif expected is not None:
        assert torch.equal(found, expected)


def test_a_fit_has_a_step_an_epoch_and_detectors_on_schedule(make):
    steps = list(make("cls", epochs=5, eval_every=2).fit(SUPPORT, KEY))
    assert [step.epoch for step in steps] == [1, 2, 3, 4, 5]
    has_detector = [step.detector is not None for step in steps]
    assert has_detector == [False, True, False, True, True]
    for step in steps:
        losses = ["cross_entropy", "triplet", "match", "total"]
        assert list(step.terms) == ["lr", *losses]


def test_a_detector_is_not_changed_by_later_epochs(make):
    steps = make("cls", lr=0.2, eval_every=1).fit(SUPPORT, KEY)
    early = next(steps).detector.learned
    before = {name: tensor.clone() for name, tensor in early.items()}
    late = [step.detector.learned for step in steps][-1]
    assert_equal(early, before)
    assert not torch.equal(early["normal"], late["normal"])


@pytest.mark.parametrize("task", TASKS)
def test_learned_are_contexts_their_prompts_and_the_multiplier(make, detectors, task):
    fitted = make(task)
    for detector in detectors[task]:
        learned = dict(detector.learned)
        prompts, scale = learned.pop("prompts"), learned.pop("logit_scale")
        contexts = clip_text.Contexts(**learned)
        features = clip_text.encode_prompts(fitted.tower, fitted.words, contexts)
        assert torch.allclose(prompts, clip_text.anomaly_prompts(features))
        assert scale.item() == fitted.tower.config["logit_scale"]


def test_the_seed_decides_on_the_fit(make):
    prompts = [
        list(make("cls", epochs=1).fit(SUPPORT, (seed, 2)))[-1].detector.learned[
            "prompts"
        ]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(prompts[0], prompts[1])
    assert not torch.equal(prompts[0], prompts[2])


@pytest.mark.parametrize("task", TASKS)
def test_a_restored_detector_predicts_the_same(detectors, task):
    fitted = detectors[task][-1]
    support, learned = numpy_of(fitted.support), numpy_of(fitted.learned)
    restored = method.restore(task, OPTIONS, support, learned)
    expected = fitted.predict(fitted.observe(TEST))
    found = restored.predict(restored.observe(TEST))
    assert_equal(found._asdict(), expected._asdict())
    assert restored.sigma == fitted.sigma == 4


def test_features_that_a_detector_does_not_compare_need_not_be_kept(detectors):
    fitted = detectors["cls"][-1]
    restored = method.restore("cls", OPTIONS, SUPPORT, numpy_of(fitted.learned))
    assert restored.support.keys() == {"mid1", "mid2"}
    assert_equal(restored.support, fitted.support)


@pytest.mark.parametrize("task", TASKS)
def test_observations_do_not_depend_on_the_training(detectors, task):
    early, late = detectors[task]
    assert not torch.equal(early.learned["prompts"], late.learned["prompts"])
    assert_equal(early.observe(TEST), late.observe(TEST))


def text_probability(detector, features):
    logits = features @ detector.learned["prompts"].numpy().T
    normal, abnormal = np.moveaxis(
        np.exp(detector.learned["logit_scale"].item() * logits), -1, 0
    )
    return abnormal / (normal + abnormal)


def memory_distance():
    """Half the mean cosine distance to the nearest support patch, [N, 4, 4]."""
    distances = [
        (1 - (TEST[n] @ SUPPORT[n].reshape(-1, 32).T).max(-1)) / 2
        for n in ("mid1", "mid2")
    ]
    return np.mean(distances, 0)


def test_images_are_scored_by_peak_and_text(detectors):
    detector = detectors["cls"][-1]
    scores, maps, components = detector.predict(detector.observe(TEST))
    large = F.interpolate(
        torch.from_numpy(memory_distance())[:, None], (16, 16), mode="bilinear"
    )
    peaks = large.amax((1, 2, 3)).numpy()
    text = text_probability(detector, TEST["global"])
    assert relative_error(maps, memory_distance()) < 1e-5
    assert relative_error(components["memory_distance"], peaks) < 1e-5
    assert relative_error(components["text_probability"], text) < 1e-5
    assert relative_error(scores, 1 / (1 / peaks + 1 / text)) < 1e-5


def test_pixels_are_scored_by_patch_and_text(detectors):
    detector = detectors["seg"][-1]
    scores, maps, components = detector.predict(detector.observe(TEST))
    text = text_probability(detector, TEST["patch"])
    assert scores is None
    assert relative_error(components["memory_distance"], memory_distance()) < 1e-5
    assert relative_error(components["text_probability"], text) < 1e-5
    assert relative_error(maps, 1 / (1 / text + 1 / memory_distance())) < 1e-5


def test_the_maps_have_the_grid_of_the_patches(detectors):
    test = {n: x if x.ndim == 2 else x[:, :3] for n, x in TEST.items()}
    for task in TASKS:
        fitted = detectors[task][-1]
        assert fitted.predict(fitted.observe(test)).maps.shape == (5, 3, 4)


def test_a_device_that_is_not_there_is_refused(make):
    with pytest.raises(UserError, match="device: cuda:99"):
        make("cls", device="cuda:99")
