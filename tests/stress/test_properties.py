"""Properties, on hundreds of drawn cases each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, roc_auc_score

from fsad.artifacts import files
from fsad.data.layouts import Sample
from fsad.data.support import draw_support
from fsad.errors import UserError
from fsad.evaluation import metrics
from fsad.methods import maps
from helpers import relative_error

many = settings(max_examples=300)

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


@many
@given(labelled())
def test_auroc(case):
    """AUROC is scikit-learn's, ties, constants and infinities included."""
    labels, scores = case
    expected = 100 * roc_auc_score(labels, ranked(scores))
    assert metrics.auroc(labels, scores) == pytest.approx(expected, abs=1e-9)


@many
@given(labelled())
def test_average_precision(case):
    """AUPR is scikit-learn's average precision, the same."""
    labels, scores = case
    expected = 100 * average_precision_score(labels, ranked(scores))
    found = metrics.image_metrics(labels, scores)
    assert found["image_aupr"] == pytest.approx(expected, abs=1e-9)


@many
@given(SCORES, st.integers(0, 1))
def test_one_kind_of_label_alone(scores, kind):
    """One kind of label alone gives nan, never a number."""
    scores = np.array(scores, np.float64)
    labels = np.full(len(scores), kind, np.uint8)
    assert np.isnan(metrics.auroc(labels, scores))
    found = metrics.image_metrics(labels, scores)
    assert np.isnan(found["image_aupr"]) == (kind == 0)


@many
@given(labelled(), st.data())
def test_nan_scores_are_refused(case, data):
    """Scores with nan are refused, wherever it stands."""
    labels, scores = case
    scores[data.draw(st.integers(0, len(scores) - 1))] = np.nan
    for metric in (metrics.auroc, metrics.image_metrics):
        with pytest.raises(ValueError, match="nan"):
            metric(labels, scores)


@many
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


@many
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


@many
@given(
    ARRAYS, st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4))
)
def test_a_cache_comes_back(tmp_path_factory, content, told):
    """Caches come back as they were written, nan and empty arrays included."""
    path = tmp_path_factory.mktemp("cache") / "a.npz"
    files.write_npz(path, content, told)
    found = files.read_npz(path)
    assert found.keys() == content.keys()
    assert files.read_settings(path) == told
    for name, array in content.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()
        assert found[name].shape == array.shape


@many
@given(ARRAYS.filter(len), st.data())
def test_a_flipped_bit_of_a_cache(tmp_path_factory, content, data):
    """One flipped bit anywhere in a cache is told, or changes no number."""
    path = tmp_path_factory.mktemp("cache") / "a.npz"
    files.write_npz(path, content, {})
    spoiled = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(spoiled) - 1))
    spoiled[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(spoiled)
    try:
        found = files.read_npz(path, *content)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert all(found[name].tobytes() == content[name].tobytes() for name in content)


@st.composite
def grids(draw):
    side = draw(st.integers(1, 20))
    resolution = draw(st.integers(2, 70))
    values = arrays(np.float32, (1, side, side), elements=st.floats(0, 1, width=32))
    return draw(values), resolution


@many
@given(grids())
def test_maps(case):
    """Maps are torch's bilinear interpolation and SciPy's Gaussian filter."""
    values, resolution = case
    tensor = torch.from_numpy(values).double()[None]
    large = torch.nn.functional.interpolate(tensor, resolution, mode="bilinear")
    expected = gaussian_filter(large[0, 0].numpy(), sigma=4)
    found = maps.full_maps(values, resolution)[0]
    assert np.allclose(found, expected, atol=1e-5)
    if expected.any():
        assert relative_error(found, expected) < 1e-4
