"""What runs read: the test set, the support images of a draw, words and truth."""

from pathlib import Path

import numpy as np
import pytest

from evaluation import cached
from fsad.artifacts.files import read_npz, write_npz
from fsad.artifacts.sources import Embedding, Source
from fsad.errors import UserError
from fsad.evaluation.inputs import first_images, job_inputs, read_draw


def support_file(tmp_path):
    """Five rows of the largest draw, and their names and digests."""
    images = [[f"s{i}", f"{i}"] for i in range(5)]
    source = Source(tmp_path / "support.npz", {"code": "now"})
    arrays = {"patch": np.arange(10).reshape(5, 2), "names": np.array(list("abcde"))}
    write_npz(source.path, arrays, source.record | {"images": images})
    return source, images


def test_the_first_rows_are_the_support_of_few_shots(tmp_path):
    source, images = support_file(tmp_path)
    draw = read_draw(Embedding(None, source), None)
    for shots in (1, 3, 5):
        found = first_images(source.path, draw, images[:shots])
        assert found["patch"].tolist() == [[2 * i, 2 * i + 1] for i in range(shots)]
        assert found["names"].tolist() == list("abcde")[:shots]


@pytest.mark.parametrize(
    "wanted",
    [
        [["s1", "1"]],
        [["s0", "changed"]],
        [["s1", "1"], ["s0", "0"]],
        [[f"s{i}", f"{i}"] for i in range(6)],
    ],
)
def test_a_support_of_other_images_is_refused(tmp_path, wanted):
    source, _ = support_file(tmp_path)
    draw = read_draw(Embedding(None, source), None)
    with pytest.raises(UserError, match=f"{source.path}: is of support"):
        first_images(source.path, draw, wanted)


def test_a_support_of_another_record_is_refused(tmp_path):
    source, _ = support_file(tmp_path)
    later = source._replace(record={"code": "later"})
    with pytest.raises(UserError, match=f"{source.path}: is of code now, not later"):
        read_draw(Embedding(None, later), None)


def test_a_draw_is_read_once_for_all_runs(tmp_path, sources):
    shots = [cached.RUN._replace(shots=k) for k in (1, 2, 3)]
    job = cached.run_job(tmp_path / "results", sources, *shots)
    inputs = job_inputs(job)
    whole = read_npz(sources["support"].path)
    for record in job.records:
        found = inputs.support(record)
        assert found.keys() == whole.keys()
        for name, array in found.items():
            assert np.array_equal(array, whole[name][: record["shots"]])
        Path(sources["support"].path).unlink(missing_ok=True)


def test_support_images_of_which_features_are_computed_are_checked(tmp_path, sources):
    job = cached.run_job(tmp_path / "results", sources, cached.RUN)
    inputs = job_inputs(job._replace(stored=False))
    stored = read_npz(sources["support"].path)
    for name, array in inputs.support(job.records[0]).items():
        assert np.array_equal(array, stored[name][:2])
    other = job.records[0] | {"support": [["s1", "1"]]}
    with pytest.raises(UserError, match="is of support"):
        inputs.support(other)


def test_text_and_masks_are_read_where_a_run_needs_them(tmp_path, sources):
    job = cached.run_job(tmp_path / "results", sources, cached.RUN)
    inputs = job_inputs(job)
    assert inputs.text.tokens.keys() == read_npz(sources["prompts"].path).keys()
    assert np.array_equal(inputs.truth.masks, cached.mask_set())
    bare = job_inputs(job._replace(text=None, prompts=None, masks=None))
    assert (bare.text, bare.truth.masks) == (None, None)
    assert bare.truth.labels.tolist() == [0, 0, 1, 1]
