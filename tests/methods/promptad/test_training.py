import pytest
import torch
import torch.nn.functional as F

from fsad.backbones import clip_text
from fsad.backbones.clip_text import Contexts
from fsad.errors import UserError
from fsad.methods.promptad import training
from fsad.methods.promptad.losses import objective
from helpers import relative_error


def unit(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


FEATURES = {"cls": unit(2, 24), "seg": unit(2, 16, 24)}


@pytest.fixture(scope="module")
def words(towers, tokens):
    return clip_text.embed_words(towers[1], tokens)


def learn(towers, words, options, task="cls"):
    """The state after each epoch; contexts as they are after the last."""
    contexts = training.initial_contexts(options, 16, options["seed"])
    learned = training.learn(towers[1], words, contexts, FEATURES[task], options)
    return list(learned)


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


def test_prompts_come_with_the_epochs_that_are_evaluated(towers, words, options):
    epochs = learn(towers, words, options | {"epochs": 5, "eval_every": 2})
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5]
    shapes = [
        None if epoch.prompts is None else epoch.prompts.shape for epoch in epochs
    ]
    assert shapes == [None, (2, 24), None, (2, 24), (2, 24)]


def test_the_prompts_are_those_of_the_contexts(towers, words, options):
    last = learn(towers, words, options)[-1]
    features = clip_text.encode_prompts(towers[1], words, last.contexts)
    assert torch.allclose(last.prompts, clip_text.anomaly_prompts(features))


def test_the_terms_of_an_epoch_add_up(towers, words, options):
    for epoch in learn(towers, words, options):
        terms = training.loss_terms(epoch)
        assert list(terms) == ["lr", "cross_entropy", "triplet", "match", "total"]
        total = terms["cross_entropy"] + terms["triplet"] + 0.001 * terms["match"]
        assert float(terms["total"]) == pytest.approx(float(total))


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
        scale = training.logit_scale(tower, options)
        loss = objective(features, prompts, scale, options["match_weight"])
        optimizer.zero_grad()
        loss.total.backward()
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return contexts, rates


@pytest.mark.parametrize("task", FEATURES)
def test_training_is_a_plain_loop(towers, words, options, task):
    options |= {"epochs": 5, "lr": 0.2, "weight_decay": 0.05, "match_weight": 1.0}
    epochs = learn(towers, words, options, task)
    start = training.initial_contexts(options, 16, options["seed"])
    expected, rates = plain_loop(towers[1], words, start, FEATURES[task], options)
    for context, other, first in zip(epochs[-1].contexts, expected, start, strict=True):
        change = context.detach() - first
        assert relative_error(change, other.detach() - first) < 1e-4
    assert [epoch.rate for epoch in epochs] == pytest.approx(rates)


def test_a_training_that_diverges_is_refused(towers, words, options):
    with pytest.raises(UserError, match="not finite after epoch 2; lower"):
        learn(towers, words, options | {"lr": 1e30, "eval_every": 2})


def test_the_given_contexts_are_left_alone(towers, words, options):
    contexts = training.initial_contexts(options, 16, 1)
    before = [c.clone() for c in contexts]
    list(training.learn(towers[1], words, contexts, FEATURES["cls"], options))
    assert all(torch.equal(c, b) for c, b in zip(contexts, before, strict=True))


def test_training_twice_gives_the_same(towers, words, options):
    first, second = (learn(towers, words, options) for _ in range(2))
    assert torch.equal(first[-1].prompts, second[-1].prompts)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.losses, other.losses)


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


def test_the_logit_scale_is_stored_or_its_exponential(towers, options):
    tower = towers[1]._replace(config={"logit_scale": 4.6052})
    assert training.logit_scale(tower, options) == 4.6052
    options["temperature"] = "exp"
    assert training.logit_scale(tower, options) == pytest.approx(100, rel=1e-4)
