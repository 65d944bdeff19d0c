"""The weighted cross-entropy against equation 1, written as a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.model.losses import weighted_cross_entropy
from napari_unet.ops.errors import InputError


def slow_loss(logits, annotations, weights):
    """Equation 1, pixel by pixel, divided by the weights of what is annotated."""
    total = weight = 0.0
    for n, y, x in np.ndindex(annotations.shape):
        label = annotations[n, y, x]
        if label == 0:
            continue
        exponentials = np.exp(logits[n, :, y, x] - logits[n, :, y, x].max())
        probability = exponentials[label - 1] / exponentials.sum()
        total -= weights[n, y, x] * np.log(probability)
        weight += weights[n, y, x]
    return total / weight if weight else 0.0


def example(seed=0, classes=3, shape=(2, 4, 5), annotated=0.6):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, (shape[0], classes, *shape[1:])).astype(np.float32))
    labels = rng.integers(1, classes + 1, shape) * (rng.random(shape) < annotated)
    weights = torch.from_numpy(rng.uniform(0, 10, shape).astype(np.float32))
    return logits.requires_grad_(), torch.from_numpy(labels), weights


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 5),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5)),
    annotated=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_equals_the_equation(seed, classes, shape, annotated):
    logits, labels, weights = example(seed, classes, shape, annotated)
    expected = slow_loss(logits.detach().double().numpy(), labels.numpy(), weights.double().numpy())
    assert weighted_cross_entropy(logits, labels, weights).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


def test_gradient_is_that_of_the_function():
    logits, labels, weights = example(shape=(1, 3, 3))
    assert torch.autograd.gradcheck(
        lambda x: weighted_cross_entropy(x, labels, weights.double()),
        logits.detach().double().requires_grad_(),
    )


def test_a_value_a_person_can_check():
    logits = torch.tensor([0.0, 0.0]).reshape(1, 2, 1, 1)
    assert weighted_cross_entropy(logits, torch.tensor([[[2]]])).item() == pytest.approx(np.log(2))


def test_pixels_that_are_not_annotated_change_neither_value_nor_gradient():
    logits, labels, weights = example(shape=(1, 4, 5))
    loss = weighted_cross_entropy(logits, labels, weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    more = torch.cat([logits.detach(), 50 * torch.randn(1, 3, 4, 7)], dim=3).requires_grad_()
    unlabelled = torch.cat([labels, torch.zeros(1, 4, 7, dtype=labels.dtype)], dim=2)
    heavy = torch.cat([weights, torch.full((1, 4, 7), 1000.0)], dim=2)
    wider = weighted_cross_entropy(more, unlabelled, heavy)
    (wider_gradient,) = torch.autograd.grad(wider, more)
    torch.testing.assert_close(wider, loss)
    torch.testing.assert_close(wider_gradient[..., :5], gradient)
    assert not wider_gradient[..., 5:].any()
    assert not gradient[(labels == 0)[:, None].expand_as(gradient)].any()
    assert gradient[(labels != 0)[:, None].expand_as(gradient)].all()


def test_what_the_logits_are_where_nothing_is_annotated_does_not_matter():
    logits, labels, weights = example()
    wild = torch.where((labels == 0)[:, None], torch.tensor(1e30), logits.detach())
    torch.testing.assert_close(
        weighted_cross_entropy(wild, labels, weights),
        weighted_cross_entropy(logits, labels, weights),
    )


@pytest.mark.parametrize("silent", ["annotations", "weights"])
def test_nothing_annotated_gives_zero_and_a_gradient_of_zeros(silent):
    logits, labels, weights = example()
    loss = (
        weighted_cross_entropy(logits, torch.zeros_like(labels), weights)
        if silent == "annotations"
        else weighted_cross_entropy(logits, labels, torch.zeros_like(weights))
    )
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_no_weights_are_equal_weights():
    logits, labels, _ = example()
    plain = weighted_cross_entropy(logits, labels)
    torch.testing.assert_close(plain, weighted_cross_entropy(logits, labels, torch.ones(2, 4, 5)))
    chosen = labels > 0
    expected = torch.nn.functional.cross_entropy(
        logits.permute(0, 2, 3, 1)[chosen], labels[chosen] - 1
    )
    torch.testing.assert_close(plain, expected)


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e6])
def test_the_scale_of_the_weights_does_not_matter(factor):
    logits, labels, weights = example()
    torch.testing.assert_close(
        weighted_cross_entropy(logits, labels, factor * weights),
        weighted_cross_entropy(logits, labels, weights),
    )


def test_heavier_pixels_count_more():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)  # right, undecided
    labels = torch.tensor([[[1, 1]]])
    even = weighted_cross_entropy(logits, labels, torch.tensor([[[1.0, 1.0]]]))
    wary = weighted_cross_entropy(logits, labels, torch.tensor([[[1.0, 9.0]]]))
    assert wary > even


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_may_be_of_any_integer_type(dtype):
    logits, labels, weights = example()
    torch.testing.assert_close(
        weighted_cross_entropy(logits, labels.to(dtype), weights),
        weighted_cross_entropy(logits, labels, weights),
    )


@pytest.mark.parametrize("autocast", [True, False])
def test_logits_in_bfloat16_are_computed_in_float32(autocast):
    # 2**17 pixels whose weights bfloat16 could not add up: it stops counting ones at 256.
    shape = (1, 256, 512)
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(1, 3, shape))
    weights = torch.from_numpy(rng.uniform(0, 10, shape).astype(np.float32))
    logits = torch.randn(1, 2, 256, 512).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = weighted_cross_entropy(logits, labels, weights)
    loss.backward()
    assert loss.dtype == torch.float32
    expected = weighted_cross_entropy(logits.detach().double(), labels, weights.double())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.any()


def test_shapes_that_do_not_go_together_are_refused():
    logits, labels, weights = example()
    with pytest.raises(InputError, match="annotations of shape"):
        weighted_cross_entropy(logits, labels[:, :-1], weights)
    with pytest.raises(InputError, match="weights of shape"):
        weighted_cross_entropy(logits, labels, weights[:1])
