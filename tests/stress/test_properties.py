"""Properties, on drawn cases: 300 of each with --stress, else 60."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from fsad.artifacts import files
from fsad.artifacts.paths import Run, parse_run, results_tree, run_path
from fsad.data.layouts import Sample
from fsad.data.support import draw_support
from fsad.errors import UserError
from fsad.evaluation import metrics
from fsad.methods import maps
from helpers import relative_error

# Scores with few values, so with ties; constants; infinities; tiny and huge ones.
SCORES = st.one_of(
    st.lists(st.sampled_from([0, 1, 2]), min_size=2, max_size=60),
    st.tuples(st.floats(0, 1), st.integers(2, 60)).map(
        lambda pair: [pair[0]] * pair[1]
    ),
    st.lists(
        st.sampled_from([-np.inf, -1.0, 0.0, 1e-30, 1e30, np.inf]),
        min_size=2,
        max_size=60,
    ),
    st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=60),
)


@st.composite
def labelled(draw):
    """Labels with a good one and a defect, and as many scores."""
    scores = np.array(draw(SCORES), np.float64)
    labels = draw(arrays(np.uint8, len(scores), elements=st.integers(0, 1)))
    labels[:2] = 0, 1
    return labels, scores


def ranked(scores):
    """The scores as finite numbers in the same order, which scikit-learn takes."""
    return np.unique(scores, return_inverse=True)[1]


@given(labelled())
def test_auroc(case):
    """AUROC is scikit-learn's, ties, constants and infinities included."""
    labels, scores = case
    expected = 100 * roc_auc_score(labels, ranked(scores))
    assert metrics.auroc(labels, scores) == pytest.approx(expected, abs=1e-9)


@given(labelled())
def test_average_precision(case):
    """AUPR is scikit-learn's average precision, the same."""
    labels, scores = case
    expected = 100 * average_precision_score(labels, ranked(scores))
    found = metrics.image_metrics(labels, scores)
    assert found["image_aupr"] == pytest.approx(expected, abs=1e-9)


@given(SCORES, st.integers(0, 1))
def test_one_kind_of_label_alone(scores, kind):
    """One kind of label alone gives nan, never a number."""
    scores = np.array(scores, np.float64)
    labels = np.full(len(scores), kind, np.uint8)
    assert np.isnan(metrics.auroc(labels, scores))
    assert np.isnan([*metrics.image_metrics(labels, scores).values()]).all()


@given(labelled(), st.data())
def test_nan_scores_are_refused(case, data):
    """Scores with nan are refused, wherever it stands."""
    labels, scores = case
    scores[data.draw(st.integers(0, len(scores) - 1))] = np.nan
    for metric in (metrics.auroc, metrics.image_metrics):
        with pytest.raises(ValueError, match="nan"):
            metric(labels, scores)


@given(labelled())
def test_order_of_images_does_not_matter(case):
    """Metrics do not depend on the order of the images."""
    labels, scores = case
    order = np.random.default_rng(0).permutation(len(scores))
    expected = metrics.image_metrics(labels, scores)
    assert metrics.image_metrics(labels[order], scores[order]) == pytest.approx(
        expected
    )


NAMES = st.lists(st.text("abcäß0 _-.", min_size=1, max_size=8), unique=True, min_size=1)


def samples(names):
    return sorted(Sample(f"good/{n}", Path("data", n), 0, None) for n in names)


@given(NAMES, st.integers(0, 2**32 - 1), st.text("abc_", min_size=1), st.data())
def test_support(names, seed, class_name, data):
    """Support: unique, nested, the same for the same seed and class."""
    train = samples(names)
    most = data.draw(st.integers(1, len(train)))
    drawn = draw_support(train, class_name, most, seed)
    assert len({sample.name for sample in drawn}) == most
    assert set(drawn) <= set(train)
    for shots in range(1, most + 1):
        assert draw_support(train, class_name, shots, seed) == drawn[:shots]
    with pytest.raises(UserError, match=f"{len(train) + 1} shots"):
        draw_support(train, class_name, len(train) + 1, seed)


ARRAYS = st.dictionaries(
    st.text("abcdefg_1", min_size=1, max_size=6).filter(
        lambda name: name != "settings"
    ),
    st.one_of(
        arrays(np.float32, array_shapes(min_dims=0, min_side=0)),
        arrays(np.uint8, array_shapes(min_dims=0, min_side=0)),
        arrays(np.int64, array_shapes(max_dims=2)),
        arrays("U5", array_shapes(max_dims=1), elements=st.text("xyzäß/", max_size=5)),
    ),
    max_size=4,
)


@given(
    ARRAYS, st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4))
)
def test_a_cache_comes_back(tmp_path_factory, content, settings):
    """Caches come back as they were written, nan and empty arrays included."""
    path = tmp_path_factory.mktemp("cache") / "a.npz"
    files.write_npz(path, content, settings)
    found = files.read_npz(path)
    assert found.keys() == content.keys()
    assert files.read_settings(path) == settings
    for name, array in content.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()
        assert found[name].shape == array.shape


def flip_a_bit(path, data):
    """Flip one bit of a file, drawn from all of them."""
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)


@given(ARRAYS.filter(len), st.data())
def test_a_flipped_bit_of_a_cache(tmp_path_factory, content, data):
    """One flipped bit anywhere in a cache is found, or changes no number."""
    path = tmp_path_factory.mktemp("cache") / "a.npz"
    files.write_npz(path, content, {})
    flip_a_bit(path, data)
    try:
        found = files.read_npz(path, *content)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert all(found[name].tobytes() == content[name].tobytes() for name in content)


RECORDS = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


@given(RECORDS, st.data())
def test_a_flipped_bit_of_a_record(tmp_path_factory, record, data):
    """One flipped bit anywhere in a record, metrics.json for one, likewise."""
    path = tmp_path_factory.mktemp("record") / "a.json"
    files.write_record(path, record)
    flip_a_bit(path, data)
    try:
        found = files.read_record(path)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert repr(found) == repr(dict(sorted(record.items())))


WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]*", fullmatch=True)
RUNS = st.builds(
    Run,
    experiment=WORDS,
    dataset=WORDS,
    class_name=st.from_regex(r"[^/.{}\x00-\x1f][^/{}\x00-\x1f]*", fullmatch=True),
    task=st.sampled_from(["cls", "seg"]),
    shots=st.integers(1, 10**6),
    seed=st.integers(0, 2**32 - 1),
)


@given(RUNS)
def test_a_run_comes_back_from_its_path(run):
    """Paths name one run each, whatever its data set and class are called."""
    folder = run_path(results_tree("/runs/k1/results").run, run)
    assert parse_run(folder) == (Path("/runs/k1/results"), run)


@st.composite
def grids(draw):
    shape = 1, draw(st.integers(1, 20)), draw(st.integers(1, 20))
    values = arrays(np.float32, shape, elements=st.floats(0, 1, width=32))
    return draw(values), draw(st.integers(2, 70)), draw(st.sampled_from([0, 1.5, 4]))


@given(grids())
def test_maps(case):
    """Maps are torch's bilinear interpolation and SciPy's Gaussian filter."""
    values, resolution, sigma = case
    tensor = torch.from_numpy(values).double()[None]
    shape = resolution, resolution
    large = torch.nn.functional.interpolate(tensor, shape, mode="bilinear")
    expected = gaussian_filter(large[0, 0].numpy(), sigma=sigma)
    found = maps.full_maps(values, resolution, sigma)[0]
    assert np.allclose(found, expected, atol=1e-5)
    if expected.max() > 1e-30:
        assert relative_error(found, expected) < 1e-4
