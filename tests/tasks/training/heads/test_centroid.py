import numpy as np
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from tasks.training.heads.centroid import fit_centroids


def test_nearest_centroid_of_standardised_vectors_is_said():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 700)
    vectors = (generator.normal(size=(5, 8))[labels] + generator.normal(size=(700, 8))) * np.geomspace(1, 9, 8) + 3
    scaler = StandardScaler().fit(vectors)
    expected = NearestCentroid().fit(scaler.transform(vectors), labels).predict(scaler.transform(vectors))
    weight, bias = fit_centroids((vectors, labels), classes=list("abcde"))
    assert ((vectors @ weight.T + bias).argmax(axis=1) == expected).mean() > 0.998
