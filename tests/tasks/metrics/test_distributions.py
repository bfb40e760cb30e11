"""The functions of scipy.stats, which is the peer, take longer to import than a test of a gate to run."""

import numpy as np
import pytest
from scipy import stats

from tasks.metrics.distributions import (
    at_most,
    heads,
    least_hits,
    more_hits,
    normal_above,
    normal_quantile,
    share_quantile,
    t_above,
    t_exceeded,
)


@pytest.mark.parametrize("num", [1, 7, 400])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_chances_of_hits_are_those_of_the_binomial(num, share):
    for hits in {-1, 0, 1, num // 2, num - 1, num}:
        assert more_hits(hits, num, share) == stats.binom.sf(hits, num, share)
        assert at_most(hits, num, share) == pytest.approx(stats.binom.cdf(hits, num, share), rel=1e-12)
    for level in (0.001, 0.05, 0.5, 0.95):
        assert least_hits(level, num, share) == max(stats.binom.ppf(level, num, share), 0)


@pytest.mark.parametrize("num", [0, 1, 12, 3000])
def test_chances_of_heads_are_those_of_the_binomial(num):
    np.testing.assert_allclose(heads(num), stats.binom.pmf(np.arange(num + 1), num, 0.5), rtol=1e-9, atol=1e-300)


def test_normal_and_t_and_beta_are_those_of_the_library():
    values = np.linspace(-4, 4, 9)
    assert (normal_above(values) == stats.norm.sf(values)).all()
    assert (t_above(values, 6) == stats.t.sf(values, 6)).all()
    for level in (0.01, 0.5, 0.8):
        assert normal_quantile(level) == stats.norm.ppf(level)
        assert t_exceeded(level, 6) == stats.t.isf(level, 6)
        assert share_quantile(level, hits=3, num=9) == stats.beta.ppf(level, 3, 7)
