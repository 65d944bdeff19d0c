"""Label images for the tests, and the distances that are right beyond doubt."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

small_labels = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0] * 12 + [1, 2, 3, 5, 9, 40]))
)


def brute_force(labels):
    """One distance transform per object, sorted at every pixel."""
    distances = [np.full(labels.shape, np.inf)] * 2
    for label in np.unique(labels[labels != 0]):
        distances.append(ndimage.distance_transform_edt(labels != label))
    d1, d2 = np.sort(distances, axis=0)[:2]
    return d1, d2


def scattered(rng, shape=(90, 110), count=40, largest=9):
    labels = np.zeros(shape, np.int32)
    for label in range(1, count + 1):
        row, column = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(1, largest, 2)
        labels[row : row + height, column : column + width] = label
    return labels
