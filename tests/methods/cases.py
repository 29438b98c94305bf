"""Published outputs of methods, and random features."""

import json

import numpy as np
import torch

from helpers import folder_from_environment


def published(name):
    """Inputs and expected arrays of a case, tensors, and its settings."""
    folder = folder_from_environment("FSAD_PARITY", "the published outputs")
    stem = folder / "parity_methods" / name
    inputs, expected = (dict(np.load(f"{stem}.{x}.npz")) for x in ("case", "expected"))
    meta = json.loads(str(inputs.pop("meta")))
    inputs, expected = (
        {n: torch.from_numpy(np.asarray(x)) for n, x in arrays.items()}
        for arrays in (inputs, expected)
    )
    return inputs, expected, meta


def normal(*shape, dtype=torch.float32):
    """Random features, the same for a shape."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype)


def fitted(method, options, support, key=(1, 2)):
    """The detector of a method without training."""
    (step,) = method.create("cls", options, None).fit(support, key)
    assert step[:2] == (1, {})
    return step.detector


def same(one, other):
    """Whether two dicts hold the same tensors, bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(one[n], other[n]) for n in one
    )


def assert_restored(method, options, detector, features):
    """A detector from the tensors of another predicts the same."""
    again = method.restore("cls", options, detector.support, detector.learned)
    expected, found = (d.predict(d.observe(features)) for d in (detector, again))
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.maps, expected.maps)
    assert found.components == expected.components == {}
    assert again.sigma == detector.sigma
