"""Each term is compared with its formula in float64, and its gradients with differences of it."""

import numpy as np
import pytest
import torch

from tasks.training.alignment.discrepancy import HIDDEN, WIDTHS, Adversary, discrepancy_of

N, M, DIM = 9, 7, 5
STEP = 1e-5


def features(seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((N, DIM)), 1.5 * generator.standard_normal((M, DIM)) + 0.5


def term_of(kind):
    return discrepancy_of(kind, DIM, torch.Generator().manual_seed(0))


def gradients(term, ours, theirs, *, progress=0.5):
    """Return the value of a term in float32, and its gradients for both sides and for its own parameters."""
    parts = [torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in (ours, theirs)]
    value = term(*parts, progress)
    found = torch.autograd.grad(value, [*parts, *term.parameters()])
    return value.item(), [part.double().numpy() for part in found]


def slopes(function, arrays, place):
    """Return the central differences of a function of several arrays, for one of them."""
    found = np.empty_like(arrays[place])
    for index in np.ndindex(*found.shape):
        values = []
        for sign in (1, -1):
            moved = [array.copy() for array in arrays]
            moved[place][index] += sign * STEP
            values.append(function(*moved))
        found[index] = (values[0] - values[1]) / (2 * STEP)
    return found


def squares(both):
    return ((both[:, None] - both[None]) ** 2).sum(axis=2)


def test_coral_is_the_distance_of_the_covariances_over_their_norms():
    def reference(ours, theirs):
        one, other = np.cov(ours.T), np.cov(theirs.T)
        return np.square(one - other).sum() / (np.linalg.norm(one) * np.linalg.norm(other))

    arrays = features()
    value, found = gradients(term_of("coral"), *arrays)
    assert value == pytest.approx(reference(*arrays), rel=1e-5)
    for place in (0, 1):
        np.testing.assert_allclose(found[place], slopes(reference, arrays, place), rtol=1e-3, atol=1e-5)


def test_mmd_is_the_distance_of_the_mean_embeddings_under_kernels_of_several_widths():
    arrays = features()
    width = np.sort(squares(np.concatenate(arrays)), axis=None)[(N + M) ** 2 // 2 - 1]  # the lower median

    def reference(ours, theirs):
        distances = squares(np.concatenate([ours, theirs]))
        kernel = np.mean([np.exp(-distances / (width * factor)) for factor in WIDTHS], axis=0)
        return kernel[:N, :N].mean() + kernel[N:, N:].mean() - 2 * kernel[:N, N:].mean()

    value, found = gradients(term_of("mmd"), *arrays)
    assert value == pytest.approx(reference(*arrays), rel=1e-4)
    for place in (0, 1):
        np.testing.assert_allclose(found[place], slopes(reference, arrays, place), rtol=1e-3, atol=1e-6)


def test_dann_trains_its_classifier_and_reverses_the_gradient_of_the_features_by_a_ramp():
    term = term_of("dann")
    arrays = [*features(), *(own.detach().double().numpy() for own in term.parameters())]

    def reference(ours, theirs, inward, inward_bias, outward, outward_bias):
        hidden = np.maximum(np.concatenate([ours, theirs]) @ inward.T + inward_bias, 0)
        logits = (hidden @ outward.T + outward_bias)[:, 0] * np.repeat([-1, 1], [N, M])
        return np.log1p(np.exp(-logits)).mean()

    value, found = gradients(term, *arrays[:2], progress=0.3)
    ramp = 2 / (1 + np.exp(-3.0)) - 1
    assert value == pytest.approx(reference(*arrays), rel=1e-5)
    assert found[2].shape == (HIDDEN, DIM)
    for place, gradient in enumerate(found):
        expected = slopes(reference, arrays, place) * (-ramp if place < 2 else 1)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_adversary_does_not_pull_at_the_start():
    _, found = gradients(Adversary(DIM, torch.Generator().manual_seed(0)), *features(), progress=0.0)
    assert not found[0].any()
    assert not found[1].any()
    assert found[2].any()


@pytest.mark.parametrize("kind", ["coral", "mmd"])
def test_domains_that_are_alike_have_no_discrepancy(kind):
    ours, _ = features()
    value, found = gradients(term_of(kind), ours, ours)
    assert value == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(found[0], 0, atol=1e-5)


def test_coral_does_not_pull_at_the_scale_of_the_features():
    ours, theirs = features()
    value, found = gradients(term_of("coral"), ours, theirs)
    assert gradients(term_of("coral"), 100 * ours, 100 * theirs)[0] == pytest.approx(value, rel=1e-4)
    assert sum((own * part).sum() for own, part in zip(found, (ours, theirs), strict=True)) == pytest.approx(
        0, abs=1e-5
    )
