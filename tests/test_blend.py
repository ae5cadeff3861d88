"""Blending with partners: values and gradients of the fast formulation against the plain one, and what it keeps."""

import pytest
import torch

from regularizers import build
from regularizers.blend import blend, blended

SHAPE = (6, 5, 9, 7)


def plain(h, partner, weight):
    """(1 - w) h + w h[partner], left to autograd."""
    weight = torch.as_tensor(weight).to(h.dtype)
    return (1 - weight) * h + weight * h.index_select(0, partner)


def states(dtype=torch.float64, memory_format=torch.contiguous_format, shape=SHAPE):
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=memory_format)
    return h.requires_grad_(), torch.randperm(shape[0], generator=generator)


def weights():
    generator = torch.Generator().manual_seed(1)
    yield 0.3
    yield torch.tensor(0.3, dtype=torch.float64)
    for shape in ((1, 5, 9, 7), (1, 1, 9, 7), (6, 5, 9, 7), (6, 1, 9, 7), (6, 1, 1, 1)):
        yield torch.rand(shape, generator=generator)
        yield torch.rand(shape, generator=generator) < 0.5


@pytest.mark.parametrize(
    "weight", list(weights()), ids=lambda w: f"{getattr(w, 'dtype', '')}{list(getattr(w, 'shape', []))}"
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_equal_the_plain_formulation(weight, memory_format):
    h, partner = states(memory_format=memory_format)
    upstream = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    out, wanted = blend(h, partner, weight), plain(h, partner, weight)
    torch.testing.assert_close(out, wanted, rtol=1e-6, atol=1e-7)
    grads = [torch.autograd.grad(values, h, upstream)[0] for values in (out, wanted)]
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-7)
    assert out.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradients_by_finite_differences(size):
    h, partner = states(shape=(size, 2, 3, 3))
    partner = partner.roll(1)
    for weight in (torch.rand(1, 2, 3, 3).double(), torch.rand(size, 2, 3, 3).double()):
        assert torch.autograd.gradcheck(lambda x, w=weight: blend(x, partner, w), h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_swap_takes_features_and_gradients_bit_for_bit(dtype):
    h, partner = states(dtype)
    mask = torch.rand(1, *SHAPE[1:], generator=torch.Generator().manual_seed(3)) < 0.5
    out = blend(h, partner, mask)
    assert out.dtype == dtype and torch.equal(out, torch.where(mask, h[partner], h))
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4)).to(dtype)
    (gradient,) = torch.autograd.grad(out, h, upstream)
    wanted = torch.where(mask, upstream[torch.argsort(partner)], upstream)
    assert torch.equal(gradient, wanted)


def test_a_state_without_gradient_has_none_after():
    h, partner = states()
    assert not blend(h.detach(), partner, 0.5).requires_grad


@pytest.mark.parametrize("method", ["patchup_soft", "patchup_hard", "manifold_mixup"])
def test_patchup_keeps_less_than_a_twentieth_of_the_state_for_backward(method):
    h, y = torch.randn(100, 16, 16, 16, requires_grad=True), torch.arange(100)
    regularizer = build(method, 100, layers=(1,), **({} if method == "manifold_mixup" else {"prob": 1.0}))
    regularizer.seed(0)
    regularizer.draw(h, y, None)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        assert regularizer.mix(1, h) is not h
    assert 0 < sum(kept) <= 0.05 * h.nbytes


def test_a_compiled_kernel_serves_both_passes(monkeypatch):
    calls = []

    def compiled(function, dynamic):
        assert function is blended and not dynamic, "one shape, one graph"
        return lambda h, partner, weight: calls.append(partner.tolist()) or function(h, partner, weight)

    monkeypatch.setattr(torch, "compile", compiled)
    h, partner = states()
    method, other = build("mixup", 10), build("mixup", 10)
    method.compile()
    for mixup in (method, other):
        mixup.draw(h.detach(), torch.arange(6), None)
    calls.clear()
    other.mix(0, h).sum().backward()
    assert not calls, "methods are compiled one by one"
    method.mix(0, h).sum().backward()
    assert calls == [method.partner.tolist(), torch.argsort(method.partner).tolist()]


def test_states_of_another_batch_are_refused():
    h, partner = states()
    with pytest.raises(ValueError, match="mix was given 2 samples, draw 6: both must be of one batch"):
        blend(h[:2], partner, 0.5)
