import numpy as np
import pytest
import torch
from networks import make_unet


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: starting threads costs more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_unet():
    return make_unet()


@pytest.fixture
def two_halves():
    """A dark left and a bright right half, with noise, and three strokes in each."""
    rng = np.random.default_rng(0)
    image = rng.normal(0.2, 0.05, (64, 80))
    image[:, 40:] += 0.6
    annotations = np.zeros(image.shape, np.uint8)
    for row in (8, 30, 52):
        annotations[row : row + 3, 5:25] = 1
        annotations[row : row + 3, 50:70] = 2
    return image, annotations
