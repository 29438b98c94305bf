import torch

from fsad.backbones.transformer import attend, block_weights


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_the_weights_of_a_block_have_short_names(towers):
    weights = block_weights(towers[0], 1)
    expected = towers[0].weights["transformer.resblocks.1.ln_1.weight"]
    assert weights["ln_1.weight"] is expected
    assert not any(name.startswith("transformer") for name in weights)


def test_attention_with_a_gradient_is_that_without():
    q, k, v = drawn(3, 2, 3, 7, 4)
    weights = {"attn.out_proj.weight": drawn(12, 12), "attn.out_proj.bias": drawn(12)}
    attn_mask = torch.ones(7, 7).tril().log()
    for mask in (None, attn_mask):
        fused = attend(q, k, v, weights, mask)
        plain = attend(q.clone().requires_grad_(), k, v, weights, mask)
        assert plain.requires_grad
        assert torch.allclose(fused, plain, rtol=1e-5, atol=1e-6)
