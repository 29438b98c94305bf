import json
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
import yaml

from fsad.backbones.clip import split_towers
from fsad.backbones.compact import TABLE, expand, save_compact
from fsad.demo.clip import training
from fsad.demo.clip.corpus import Corpus
from fsad.demo.clip.phrases import encode_phrases, make_phrases
from fsad.errors import UserError
from helpers import REPOSITORY, TINY, relative_error

STATES = "damaged {}", "{} with flaw"
GRID, PATCH = 4, 4
MEMORY_TERMS = {"teacher", "similarity", "distance", "memory"}
TEXT_TERMS = {"image_state", "patch_state", "noun"}
WEIGHTS = dict.fromkeys([*MEMORY_TERMS, *TEXT_TERMS], 1.0)
STEPS = 24
VISION = {
    "image_size": GRID * PATCH,
    "patch_size": PATCH,
    "width": 3 * PATCH**2,
    "head_width": 16,
    "layers": 3,
}
MODEL = TINY | {"vision_cfg": VISION}


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options of one step of both stages, with a tiny model."""
    model = tmp_path_factory.mktemp("model") / "tiny.json"
    model.write_text(json.dumps(MODEL))
    stage = {"steps": 1, "batch": 4, "image_context_share": 0.8, "noun_logit_scale": 10}
    options = stage | {"model": str(model), "seed": 1, "episodes": 6, "text_every": 1}
    options |= {"learning_rate": 0.001, "muon_learning_rate": 0.002, "warmup_steps": 4}
    options["text_stage"] = stage | {"episodes": 6, "noun_weight": 1.0}
    return options | {"weights": WEIGHTS, "logit_scale": 0.5}


@pytest.fixture(scope="module")
def phrases():
    return make_phrases(STATES)


@pytest.fixture(scope="module")
def episodes():
    """Six episodes of noise, dark or bright by the noun, with white defective patches.

    The features of the teacher are a few linear mixtures of the pixels of a patch.
    """
    rng = np.random.default_rng(0)
    side = GRID * PATCH
    bright = np.arange(6)[:, None, None, None, None] % 2
    images = 120 * bright + rng.integers(0, 80, (6, 3, side, side, 3))
    share = (rng.random((6, GRID, GRID)) < 0.2).astype(np.float32)
    white = share.repeat(PATCH, 1).repeat(PATCH, 2)[..., None] > 0
    images[:, 2] = np.where(white, 255, images[:, 2])
    patches = images.reshape(6, 3, GRID, PATCH, GRID, PATCH, 3).swapaxes(3, 4)
    patches = patches.reshape(6, 3, GRID, GRID, -1) / 128 - 1
    teacher = [patches @ rng.standard_normal((3 * PATCH**2, 5)) for _ in range(2)]
    words = [("nut", "hole"), ("disc", "crack")] * 3
    return Corpus(images.astype(np.uint8), share, words, teacher)


@pytest.fixture(scope="module")
def train(options, episodes, phrases):
    """A function that trains with some options changed.

    It returns weights, numbers of their tokens, and the memory and text terms of every
    step, as lists of numbers by name.
    """

    def run(**changed):
        terms = {"memory": [], "text": []}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "make_corpus", lambda *_: episodes)
            patch.setattr(training, "make_phrases", {STATES: phrases}.get)
            patch.setattr(training, "SIDE", GRID * PATCH)
            for kind, kept in terms.items():
                record_terms(patch, f"{kind}_terms", kept)
            weights, numbers = training.pretrain(options | changed, STATES, 1)
        return SimpleNamespace(weights=weights, numbers=numbers, **terms)

    torch.use_deterministic_algorithms(True)
    yield run
    torch.use_deterministic_algorithms(False)


def record_terms(patch, name, kept):
    """Let a function of the training add the terms of each call to a list."""
    compute = getattr(training, name)

    def recording(*arguments):
        terms = compute(*arguments)
        kept.append({name: term.item() for name, term in terms.items()})
        return terms

    patch.setattr(training, name, recording)


@pytest.fixture(scope="module")
def long(train, options):
    """A training that is long enough to learn something."""
    stage = options["text_stage"] | {"steps": STEPS}
    return train(steps=STEPS, text_stage=stage)


@pytest.fixture(scope="module")
def short(train):
    """One step of each stage."""
    return train()


def assert_falls(steps, names):
    """The terms of these names are lower at the end of some steps than at first."""
    assert {name for step in steps for name in step} == names
    for name in names:
        values = [step[name] for step in steps]
        assert np.mean(values[-5:]) < np.mean(values[:5]), name


def test_every_term_of_the_loss_falls(long):
    assert len(long.memory) == STEPS
    assert_falls(long.memory, MEMORY_TERMS)
    assert_falls(long.text[:STEPS], TEXT_TERMS)


def test_every_weight_but_the_logit_scale_is_trained(long, train):
    start = train(learning_rate=1e-9, muon_learning_rate=1e-9).weights
    assert start[TABLE].shape == (len(long.numbers), 16)
    same = [n for n, w in start.items() if torch.allclose(w, long.weights[n])]
    assert same == ["logit_scale"]


def test_texts_are_trained_in_some_steps_only(train):
    trained = train(steps=4, text_every=3)
    assert len(trained.memory) == 4
    assert len(trained.text) == 2 + 1  # steps 0 and 3, and the text tower's own


def test_the_text_tower_is_trained_alone_at_last(short, train, options, long):
    other = train(text_stage=options["text_stage"] | {"steps": 2}).weights
    same = {n for n, w in short.weights.items() if torch.equal(w, other[n])}
    vision = {name for name in other if name.startswith("visual.")}
    assert same == {"logit_scale", *vision}
    alone = [{"sum": sum(step.values())} for step in long.text[STEPS:]]
    assert len(alone) == STEPS
    assert_falls(alone, {"sum"})


def test_the_text_tower_is_trained_for_the_vision_tower_as_stored(short):
    for name, weight in short.weights.items():
        if name.startswith("visual.") and weight.ndim > 1:
            assert torch.equal(weight, weight.half().float()), name


def test_muon_trains_the_matrices_of_the_blocks(train):
    still = {"learning_rate": 1e-12, "muon_learning_rate": 1e-12}
    before = train(**still).weights
    after = train(**still | {"muon_learning_rate": 0.02}).weights
    moved = {n for n, w in before.items() if not torch.allclose(w, after[n])}
    matrices = {n for n, w in before.items() if "resblocks" in n and w.ndim == 2}
    assert moved == matrices


def test_a_seed_gives_the_same_weights(short, train):
    again, other = train().weights, train(seed=2).weights
    assert all(torch.equal(w, again[n]) for n, w in short.weights.items())
    assert not torch.equal(short.weights["visual.proj"], other["visual.proj"])


def test_a_term_without_weight_has_no_effect():
    tensors = torch.ones(()), torch.ones(())
    tower = SimpleNamespace(weights={"resblocks": torch.ones(1, 1)})
    rates = {"learning_rate": 0.1, "muon_learning_rate": 0.1, "warmup_steps": 1}
    training.minimise(
        lambda step: {"a": tensors[0] ** 2, "b": tensors[1] ** 2},
        [tower],
        tensors,
        rates | {"steps": 3, "weights": {"a": 1.0, "b": 0.0}},
    )
    with_weight, without = (tensor.item() for tensor in tensors)
    assert 0 < with_weight < 0.95
    assert without == 1


def test_the_learning_rate_warms_up_and_falls():
    shares = [training.rate_share(step, steps=100, warmup=10) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == max(shares) > 0.95
    assert shares[9:] == sorted(shares[9:], reverse=True)
    assert shares[-1] == pytest.approx(0.01, abs=0.001)


def test_open_clip_loads_the_stored_weights(long, phrases, tmp_path):
    save_compact(tmp_path / "tiny.safetensors", long.weights, long.numbers)
    clip = open_clip.CLIP(**MODEL).eval()
    clip.load_state_dict(expand(tmp_path / "tiny.safetensors"))
    _, text = split_towers(clip, "tiny")
    texts = ["nut", "damaged nut", "object with a hole"]
    tokens = open_clip.tokenize([f"{text}." for text in texts])
    expected = clip.encode_text(tokens, normalize=True).detach()
    text.weights[TABLE] = text.weights[TABLE][long.numbers]
    ours = encode_phrases(text, phrases, texts, torch.zeros(3, 0, 16))
    assert relative_error(ours.detach(), expected) < 1e-5


@pytest.mark.parametrize(
    "misfit", [{"width": 96}, {"layers": 1}, {"patch_size": 12, "width": 432}]
)
def test_a_model_that_does_not_fit_is_an_error(tmp_path, misfit):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY | {"vision_cfg": VISION | misfit}))
    with pytest.raises(UserError, match=r"tiny\.json: must have a width of 3 times"):
        training.patch_size(str(path))


def test_the_shipped_options_are_valid():
    options = training.read_options(REPOSITORY / "config/demo_backbone.yaml")
    assert training.patch_size(str(REPOSITORY / options["model"])) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 3}, "step: unknown option; did you mean 'steps'"),
        ({"steps": 0}, "steps: must be at least 1, not 0"),
        ({"weights": WEIGHTS | {"noun": -1}}, r"weights\.noun: must be at least 0"),
        ({"weights": {}}, r"weights\.teacher: must be given"),
        ({"batch": 7}, "batch: must not be more than episodes, 6"),
        ({"text_stage": {"batch": 7}}, r"text_stage\.batch: must not be more"),
    ],
)
def test_wrong_options_are_named(options, tmp_path, change, message):
    if "text_stage" in change:
        change = {"text_stage": options["text_stage"] | change["text_stage"]}
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump(options | change))
    with pytest.raises(UserError, match=f"{path}: {message}"):
        training.read_options(path)
