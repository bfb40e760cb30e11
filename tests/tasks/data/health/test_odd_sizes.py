import numpy as np
import pandas as pd

from tasks.data.health.odd_sizes import odd_sizes


def images(*sizes):
    return pd.DataFrame([{"width": width, "height": height} for width, height in sizes])


def test_image_of_another_area_or_shape_is_odd_and_says_what_is_usual():
    rows, scores, said = odd_sizes(images(*[(100, 80)] * 50, (1600, 1280), (300, 27)))
    assert rows.tolist() == [50, 51]
    assert said[0] == "1600 x 1280 px, where 100 x 80 px are usual"
    assert ((scores > 0) & (scores <= 1)).all()


def test_sizes_that_vary_as_photographs_do_are_not_odd():
    generator = np.random.default_rng(0)
    sides = np.exp(generator.normal(6, 0.5, (500, 2))).astype(int)
    assert not len(odd_sizes(images(*sides))[0])


def test_text_that_is_far_longer_is_odd():
    lengths = [*np.random.default_rng(0).integers(80, 400, 200), 90_000]
    rows, _, said = odd_sizes(pd.DataFrame({"characters": lengths}))
    assert rows.tolist() == [200]
    assert said[0].startswith("90,000 characters, where ")


def test_samples_without_a_size_are_not_odd():
    assert not len(odd_sizes(pd.DataFrame({"sample_id": ["a", "b"]}))[0])
    assert not len(odd_sizes(images((5, 5)))[0])
