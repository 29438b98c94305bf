import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from fsad.backbones import clip_text
from fsad.backbones.clip_text import Contexts
from fsad.errors import UserError
from fsad.methods.promptad import losses, training
from fsad.methods.promptad.training import Training
from helpers import relative_error


def unit(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


FEATURES = {"cls": unit(2, 24), "seg": unit(2, 16, 24)}


@pytest.fixture(scope="module")
def words(towers, tokens):
    return clip_text.embed_words(towers[1], tokens)


def fit(towers, words, options, evaluate=None, task="cls"):
    contexts = training.initial_contexts(options, 16, options["seed"])
    evaluate = evaluate or (lambda prompts: (prompts.numpy(), 50.0))
    learner = Training(contexts, FEATURES[task], evaluate)
    return training.fit(towers[1], words, [learner], options)[0]


@pytest.mark.parametrize(
    ("epochs", "every", "due"),
    [
        (20, 5, [5, 10, 15, 20]),
        (7, 5, [5, 7]),
        (3, 5, [3]),
        (3, 1, [1, 2, 3]),
        (1, 1, [1]),
    ],
)
def test_evaluation_epochs(epochs, every, due):
    assert training.evaluation_epochs(epochs, every) == due


def test_best_is_the_first_best_and_last_the_last(towers, words, options):
    aurocs = iter([50.0, 80.0, 80.0, 60.0])
    options |= {"epochs": 4, "eval_every": 1}
    run = fit(towers, words, options, lambda prompts: (np.zeros(1), next(aurocs)))
    assert (run.best.epoch, run.best.auroc) == (2, 80)
    assert (run.last.epoch, run.last.auroc) == (4, 60)


def test_the_best_prompts_are_kept_as_they_were(towers, words, options):
    aurocs = iter([80.0, 60.0])
    short, long = options | {"epochs": 4}, options | {"epochs": 4, "eval_every": 4}
    run = fit(towers, words, short, lambda p: ({"fused": p.numpy()}, next(aurocs)))
    assert not torch.equal(run.best.contexts.normal, run.last.contexts.normal)
    assert torch.equal(
        run.last.contexts.normal, fit(towers, words, long).last.contexts.normal
    )
    prompts = clip_text.anomaly_prompts(
        clip_text.encode_prompts(towers[1], words, run.best.contexts)
    )
    assert torch.allclose(run.best.prompts, prompts)
    assert np.array_equal(run.best.predictions["fused"], run.best.prompts)


def test_history_has_a_row_for_every_epoch(towers, words, options):
    options |= {"epochs": 5, "eval_every": 2}
    history = fit(towers, words, options).history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert [row.get("auroc") for row in history] == [None, 50, None, 50, 50]
    for row in history:
        total = row["cross_entropy"] + row["triplet"] + 0.001 * row["match"]
        assert row["total"] == pytest.approx(total)


def plain_loop(tower, words, contexts, features, options):
    """By torch's own SGD and schedule, step by step."""
    contexts = [c.clone().requires_grad_() for c in contexts]
    names = "lr", "momentum", "weight_decay"
    optimizer = torch.optim.SGD(contexts, **{name: options[name] for name in names})
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, options["epochs"], eta_min=options["min_lr"]
    )
    rates = []
    for _ in range(options["epochs"]):
        prompts = clip_text.encode_prompts(tower, words, Contexts(*contexts))
        factor = training.temperature(tower, options)
        loss = losses.objective(features, prompts, factor, options["match_weight"])
        optimizer.zero_grad()
        loss.total.backward()
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return contexts, rates


@pytest.mark.parametrize("task", FEATURES)
def test_training_is_a_plain_loop(towers, words, options, task):
    options |= {"epochs": 5, "lr": 0.2, "weight_decay": 0.05, "match_weight": 1.0}
    run = fit(towers, words, options, task=task)
    start = training.initial_contexts(options, 16, options["seed"])
    expected, rates = plain_loop(towers[1], words, start, FEATURES[task], options)
    for context, other, first in zip(run.last.contexts, expected, start, strict=True):
        assert relative_error(context - first, other.detach() - first) < 1e-4
    assert [row["lr"] for row in run.history] == pytest.approx(rates)


def test_trainings_in_one_pass_are_those_of_their_own(towers, words, options):
    options |= {"epochs": 6, "eval_every": 2, "lr": 0.2}
    learners = []
    for seed, (task, n_pro) in enumerate([("cls", 3), ("seg", 1), ("cls", 2)]):
        contexts = training.initial_contexts(options | {"n_pro": n_pro}, 16, seed)
        score = iter([50.0 + seed, 70.0 - 20 * seed, 60.0])
        evaluate = lambda p, score=score: ({"fused": p.numpy()}, next(score))  # noqa: E731
        learners.append((contexts, FEATURES[task], evaluate))
    scores = [[50.0, 70.0, 60.0], [51.0, 50.0, 60.0], [52.0, 30.0, 60.0]]
    together = training.fit(
        towers[1], words, [Training(*learner) for learner in learners], options
    )
    for (contexts, features, _), run, aurocs in zip(
        learners, together, scores, strict=True
    ):
        score = iter(aurocs)
        evaluate = lambda p, score=score: ({"fused": p.numpy()}, next(score))  # noqa: E731
        learner = Training(contexts, features, evaluate)
        [alone] = training.fit(towers[1], words, [learner], options)
        assert run.best.epoch == alone.best.epoch
        assert relative_error(run.last.prompts, alone.last.prompts) < 1e-5
        assert (
            relative_error(run.last.contexts.normal, alone.last.contexts.normal) < 1e-5
        )
        for row, other in zip(run.history, alone.history, strict=True):
            assert row == pytest.approx(other, rel=1e-4)


def test_a_training_that_diverges_is_told(towers, words, options):
    with pytest.raises(UserError, match="after epoch 2; lower"):
        fit(towers, words, options | {"lr": 1e30, "eval_every": 2})


def test_the_given_contexts_are_left_alone(towers, words, options):
    contexts = training.initial_contexts(options, 16, 1)
    before = [c.clone() for c in contexts]
    evaluate = lambda prompts: (prompts.numpy(), 50.0)  # noqa: E731
    training.fit(
        towers[1], words, [Training(contexts, FEATURES["cls"], evaluate)], options
    )
    assert all(torch.equal(c, b) for c, b in zip(contexts, before, strict=True))


def test_training_twice_gives_the_same(towers, words, options):
    first, second = (fit(towers, words, options) for _ in range(2))
    assert first.history == second.history
    assert torch.equal(first.last.prompts, second.last.prompts)


def test_initial_contexts_follow_their_seed(options):
    first, again, other = (
        training.initial_contexts(options, 16, seed) for seed in (1, 1, 2)
    )
    assert [c.shape for c in first] == [(2, 2, 16), (3, 1, 16)]
    assert all(torch.equal(c, a) for c, a in zip(first, again, strict=True))
    assert not any(torch.equal(c, o) for c, o in zip(first, other, strict=True))


def test_initial_contexts_are_small_and_centred(options):
    options |= {"n_pro": 8, "n_pro_ab": 8, "n_ctx": 8, "n_ctx_ab": 8}
    for context in training.initial_contexts(options, 512, 0):
        assert float(context.std()) == pytest.approx(0.02, rel=0.02)
        assert abs(float(context.mean())) < 0.001


def test_the_temperature_is_stored_or_its_exponential(towers, options):
    tower = towers[1]._replace(config={"logit_scale": 4.6052})
    assert training.temperature(tower, options) == 4.6052
    options["temperature"] = "exp"
    assert training.temperature(tower, options) == pytest.approx(100, rel=1e-4)


PROMPTS, TEMPERATURE = unit(2, 24), 4.6


def textual(features):
    normal, abnormal = (features @ PROMPTS.T * TEMPERATURE).exp().unbind(-1)
    return abnormal / (normal + abnormal)


def visual(images, grid):
    return torch.rand(images, grid, grid, generator=torch.Generator().manual_seed(0))


def enlarged(maps, resolution):
    return F.interpolate(maps[:, None], (resolution, resolution), mode="bilinear")[:, 0]


def test_images_are_scored_by_peak_and_text():
    features, labels = unit(6, 24), np.array([0, 1, 0, 1, 1, 0], np.uint8)
    evaluate = training.image_evaluator(features, visual(6, 4), labels, TEMPERATURE, 16)
    predictions, auroc = evaluate(PROMPTS)
    peaks = enlarged(visual(6, 4), 16).amax((1, 2))
    expected = 1 / (1 / peaks + 1 / textual(features))
    assert relative_error(predictions["visual"], peaks) < 1e-5
    assert relative_error(predictions["textual"], textual(features)) < 1e-5
    assert relative_error(predictions["fused"], expected) < 1e-5
    assert auroc == pytest.approx(100 * roc_auc_score(labels, expected))


def test_pixels_are_scored_by_patch_and_text():
    features, masks = unit(3, 16, 24), np.zeros((3, 20, 20), np.uint8)
    masks[1, 3:9, 10:] = 1
    evaluate = training.pixel_evaluator(features, visual(3, 4), masks, TEMPERATURE)
    predictions, auroc = evaluate(PROMPTS)
    words = textual(features).view(3, 4, 4)
    expected = 1 / (1 / words + 1 / visual(3, 4))
    assert relative_error(predictions["visual"], visual(3, 4)) < 1e-5
    assert relative_error(predictions["textual"], words) < 1e-5
    assert relative_error(predictions["fused"], expected) < 1e-5
    maps = [gaussian_filter(image, 4) for image in enlarged(expected.double(), 20)]
    area = roc_auc_score(masks.ravel(), np.ravel(maps))
    assert auroc == pytest.approx(100 * area, abs=0.01)
