import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
import yaml
from sklearn.metrics import log_loss

from fsad.backbones.compact import TABLE, expand, save_compact
from fsad.demo.clip import training
from fsad.demo.clip.corpus import Corpus
from fsad.demo.clip.training import Phrases, Wording, encode_phrases
from fsad.errors import UserError
from fsad.methods.promptad.training import CONTEXT_STD
from helpers import REPOSITORY, TINY, relative_error

STATES = ["damaged {}", "{} with flaw"]
WEIGHTS = dict.fromkeys(
    ["teacher", "likeness", "distance", "memory", "state", "place", "noun"], 1.0
)
GRID, SIDE = 4, 32


@pytest.fixture(scope="module")
def phrases():
    return Phrases(STATES)


@pytest.fixture(scope="module")
def episodes():
    """Noise, dark or bright as the noun says, whose marred patches are white.

    The teacher sees a few linear mixtures of the pixels of a patch.
    """
    rng = np.random.default_rng(0)
    bright = np.arange(6)[:, None, None, None, None] % 2
    images = 120 * bright + rng.integers(0, 80, (6, 3, SIDE, SIDE, 3))
    marred = (rng.random((6, GRID, GRID)) < 0.2).astype(np.float32)
    white = marred.repeat(8, 1).repeat(8, 2)[..., None] > 0
    images[:, 2] = np.where(white, 255, images[:, 2])
    patches = images.reshape(6, 3, GRID, 8, GRID, 8, 3).swapaxes(3, 4)
    patches = patches.reshape(6, 3, GRID, GRID, -1) / 128 - 1
    taught = [patches @ rng.standard_normal((192, 5)) for _ in range(2)]
    words = [("nut", "hole"), ("disc", "crack")] * 3
    return Corpus(images.astype(np.uint8), marred, words, taught)


@pytest.fixture
def configured(tmp_path):
    """Options of a short training of a tiny model."""
    model = tmp_path / "tiny.json"
    model.write_text(json.dumps(TINY | {"vision_cfg": vision()}))
    options = {"model": str(model), "seed": 1, "episodes": 6, "steps": 40, "batch": 4}
    telling = {"told": 0.8, "contrast": 10}
    words = {"every": 1, "episodes": 6, "steps": 10, "batch": 4, "noun": 1.0}
    options |= telling | {"words": words | telling}
    options |= {"learning_rate": 0.001, "muon": 2, "warmup": 4, "logit_scale": 0.5}
    return options | {"weights": WEIGHTS}


def vision():
    """Of the tiny model: 32 pixels as 4 x 4 patches, each of 3 * 8 * 8 numbers."""
    return {"image_size": SIDE, "patch_size": SIDE // GRID, "width": 192, "layers": 4}


@pytest.fixture
def trained(configured, episodes, monkeypatch):
    monkeypatch.setattr(training, "make_corpus", lambda *_: episodes)
    monkeypatch.setattr(training, "SIDE", SIDE)
    torch.use_deterministic_algorithms(True)
    yield lambda **changed: training.pretrain(configured | changed, STATES, 1)
    torch.use_deterministic_algorithms(False)


def recorded(monkeypatch, name):
    """A list that gets the terms of the loss from each call of this function."""
    steps, compute = [], getattr(pretraining, name)

    def kept(*arguments):
        terms = compute(*arguments)
        steps.append({name: term.item() for name, term in terms.items()})
        return terms

    monkeypatch.setattr(training, name, kept)
    return steps


def steps_of(trained, monkeypatch, **changed):
    """The terms of the loss of each step of both towers."""
    steps = recorded(monkeypatch, "_terms")
    trained(**changed)
    return steps


def losses_of(trained, monkeypatch, **changed):
    """Each term of the loss, a list over the steps."""
    steps = steps_of(trained, monkeypatch, **changed)
    return {name: [step[name] for step in steps] for name in steps[0]}


def test_every_term_of_the_loss_falls(trained, monkeypatch):
    losses = losses_of(trained, monkeypatch)
    assert losses.keys() == WEIGHTS.keys()
    for name, values in losses.items():
        assert np.mean(values[-5:]) < np.mean(values[:5]), name


def test_a_term_without_weight_teaches_nothing(trained, monkeypatch):
    alone = dict.fromkeys(WEIGHTS, 0.0) | {"teacher": 1.0}
    losses = losses_of(trained, monkeypatch, weights=alone)
    fell = {name: np.mean(v[-5:]) / np.mean(v[:5]) for name, v in losses.items()}
    assert fell["teacher"] < 0.9
    assert fell["state"] > 0.7


def test_muon_learns_the_matrices_of_the_blocks(trained):
    still = {"learning_rate": 1e-12, "steps": 1}
    (before, _), (after, _) = trained(**still), trained(**still | {"muon": 1e10})
    moved = {n for n, w in before.items() if not torch.allclose(w, after[n])}
    matrices = {n for n, w in before.items() if "resblocks" in n and w.ndim == 2}
    assert moved == matrices


def test_words_are_learned_in_some_steps_alone(configured, trained, monkeypatch):
    words = configured["words"] | {"every": 3}
    steps = steps_of(trained, monkeypatch, steps=5, words=words)
    memory = {"teacher", "likeness", "distance", "memory"}
    kinds = [WEIGHTS.keys(), memory, memory, WEIGHTS.keys(), memory]
    assert [step.keys() for step in steps] == kinds


def test_at_last_the_text_tower_learns_alone(configured, trained, monkeypatch):
    steps_of_words, weights = recorded(monkeypatch, "_word_terms"), {}
    for steps in (1, 40):
        words = configured["words"] | {"steps": steps}
        weights[steps], _ = trained(steps=2, words=words)
    same = {n for n, w in weights[1].items() if torch.equal(w, weights[40][n])}
    assert same == {"logit_scale", *(n for n in weights[1] if n.startswith("visual."))}
    losses = [sum(terms.values()) for terms in steps_of_words]
    alone = losses[-40:]
    assert len(losses) == 2 + 1 + 2 + 40
    assert np.mean(alone[-5:]) < np.mean(alone[:5])


def test_the_vision_tower_that_words_are_learned_for_is_the_one_kept(trained):
    weights, _ = trained(steps=2)
    for name, weight in weights.items():
        if name.startswith("visual.") and weight.ndim > 1:
            assert torch.equal(weight, weight.half().float()), name


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"batch": 7}, "batch"), ({"words": {"batch": 7}}, r"words\.batch")],
)
def test_a_batch_of_more_episodes_than_there_are_is_told(
    configured, tmp_path, changed, name
):
    words = configured["words"] | changed.get("words", {})
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(configured | changed | {"words": words}))
    with pytest.raises(UserError, match=rf"training\.yaml: {name}: must not be more"):
        training.read_options(path)


def test_a_seed_gives_the_same_weights(trained):
    first, second, other = trained(steps=3), trained(steps=3), trained(steps=3, seed=2)
    same = {n: torch.equal(w, second[0][n]) for n, w in first[0].items()}
    assert all(same.values())
    assert not torch.equal(first[0]["visual.proj"], other[0]["visual.proj"])


def test_every_weight_but_the_logit_scale_is_trained(trained):
    (before, numbers), (after, _) = trained(steps=1, learning_rate=1e-9), trained()
    assert before[TABLE].shape == (len(numbers), 16)
    still = [name for name, w in before.items() if torch.allclose(w, after[name])]
    assert still == ["logit_scale"]


def test_what_was_trained_is_what_open_clip_loads(trained, phrases, tmp_path):
    weights, numbers = trained()
    save_compact(tmp_path / "tiny.safetensors", weights, numbers)
    clip = open_clip.CLIP(**TINY | {"vision_cfg": vision()}).eval()
    clip.load_state_dict(expand(tmp_path / "tiny.safetensors"))
    _, text = training.split_towers(clip, "tiny")
    texts = ["nut", "damaged nut", "object with a hole"]
    tokens = open_clip.tokenize([f"{text}." for text in texts])
    expected = clip.encode_text(tokens, normalize=True).detach()
    text.weights[TABLE] = text.weights[TABLE][numbers]
    ours = encode_phrases(text, phrases, texts, torch.zeros(3, 0, 16))
    assert relative_error(ours, expected) < 1e-5


def test_contexts_are_what_stands_before_the_words(phrases):
    clip = open_clip.CLIP(**TINY).eval()
    _, text = training.split_towers(clip, "tiny")
    table = text.weights[TABLE][torch.tensor(phrases.numbers)]
    text.weights[TABLE] = table
    before = table[phrases.rows["damaged nut"][:1]]
    ours = encode_phrases(text, phrases, ["nut", "disc"], torch.stack([before] * 2))
    written = ["damaged nut", "damaged disc"]
    expected = encode_phrases(text, phrases, written, torch.zeros(2, 0, 16))
    assert relative_error(ours.detach(), expected.detach()) < 1e-5


def test_most_contexts_tell_what_is_shown():
    generator = torch.Generator().manual_seed(0)
    shown = torch.randn(1, 6, generator=generator).repeat(2000, 1)
    head = torch.randn(6, 4 * 8, generator=generator)
    torch.manual_seed(0)
    contexts = training._contexts(shown, Wording(None, None, head, 0.8, 1))
    contexts = contexts.flatten(1) / CONTEXT_STD
    told = F.layer_norm(shown[0] @ head, (32,))
    shares = contexts @ told / 32  # about 0 or 1, with a deviation of 32 ** -0.5
    assert contexts.shape == (2000, 32)
    assert float((shares > 0.5).float().mean()) == pytest.approx(0.8, abs=0.03)
    silent = contexts[shares < 0.5]
    assert float(silent.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "misfit", [{"width": 96}, {"layers": 1}, {"patch_size": 12, "width": 432}]
)
def test_a_model_that_does_not_fit_is_told(configured, misfit):
    model = TINY | {"vision_cfg": vision() | misfit}
    Path(configured["model"]).write_text(json.dumps(model))
    with pytest.raises(UserError, match=r"tiny\.json: must have a width of 3 times"):
        training.pretrain(configured, STATES, 1)


def test_unknown_words_share_a_row(phrases):
    unknown = len(phrases.numbers)
    assert phrases.rows["object"][0] == unknown
    assert unknown not in phrases.rows["nut"]


def test_distances_are_to_the_nearest_patch_of_the_images_before():
    features = torch.nn.functional.normalize(torch.randn(6, 5, 7), dim=-1)
    sound, marred = training._distances(features)
    for episode in range(2):
        first, second, third = features[3 * episode : 3 * episode + 3]
        for patch in range(5):
            expected = naive_distance(second[patch], first)
            assert float(sound[episode, patch]) == pytest.approx(expected, abs=1e-6)
            expected = naive_distance(third[patch], [*first, *second])
            assert float(marred[episode, patch]) == pytest.approx(expected, abs=1e-6)


def naive_distance(patch, memory):
    return (1 - max(float(patch @ other) for other in memory)) / 2


def test_marred_and_sound_patches_weigh_the_same():
    logits = torch.randn(40, generator=torch.Generator().manual_seed(0))
    share = torch.tensor([0.5] * 3 + [0.1] * 7 + [0.0] * 30)  # 0.1 is neither
    kinds = slice(0, 3), slice(10, None)
    expected = [
        log_loss([k] * len(logits[part]), logits[part].sigmoid(), labels=[0, 1])
        for k, part in zip((1, 0), kinds, strict=True)
    ]
    ours = training._balanced(logits, share)
    assert float(ours) == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_shipped_options_are_valid():
    options = training.read_options(REPOSITORY / "config/demo_backbone.yaml")
    assert training._fitting_patch(str(REPOSITORY / options["model"])) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 3}, "step: unknown option; did you mean 'steps'"),
        ({"steps": 0}, "steps: 0 is less than"),
        ({"weights": WEIGHTS | {"noun": -1}}, "weights.noun: -1 is less than"),
        ({"weights": {}}, "weights.teacher: must be given"),
    ],
)
def test_wrong_options_are_told(configured, tmp_path, change, message):
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump(configured | change))
    with pytest.raises(UserError, match=f"{path}: {message}"):
        training.read_options(path)
