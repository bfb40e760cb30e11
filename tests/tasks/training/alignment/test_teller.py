"""The teller of domains."""

from tasks.training.alignment.teller import fit_teller
from tests.kit.domains import drawn


def test_teller_tells_sources_and_domains_apart_whatever_their_sizes():
    sides = [drawn(num, seed=seed, move=move)[0] for num, seed, move in ((900, 0, 0.0), (60, 1, 3.0), (90, 2, -3.0))]
    weight, bias = fit_teller(sides[0], {"left": sides[1], "right": sides[2]})
    for side, move in enumerate((0.0, 3.0, -3.0)):
        vectors, _ = drawn(200, seed=10 + side, move=move)
        assert ((vectors @ weight.T + bias).argmax(axis=1) == side).mean() > 0.9


def test_same_samples_give_the_same_bytes():
    sides = drawn(100, seed=0)[0], drawn(50, seed=1, move=1.0)[0]
    first, again = (fit_teller(sides[0], {"moved": sides[1]}) for _ in range(2))
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
