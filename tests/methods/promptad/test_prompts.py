import pytest
import torch
import torch.nn.functional as F

from fsad.methods.promptad.prompts import fuse, text_probability


def unit(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


@pytest.mark.parametrize("shape", [(5,), (5, 4)])
def test_the_text_probability_is_a_softmax(shape):
    features, prompts = unit(*shape, 6), unit(2, 6)
    normal, abnormal = (features @ prompts.T * 4.6).exp().unbind(-1)
    found = text_probability(features, prompts, 4.6)
    assert found.shape == shape
    assert torch.allclose(found, abnormal / (normal + abnormal))


@pytest.mark.parametrize(
    ("first", "second", "fused"), [(0.5, 0.5, 0.25), (1, 0.25, 0.2), (0, 0.3, 0)]
)
def test_fusion(first, second, fused):
    value = fuse(torch.tensor(float(first)), torch.tensor(float(second)))
    assert float(value) == pytest.approx(fused)
