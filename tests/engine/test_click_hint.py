"""What clicks are told of another network's answer."""

import numpy as np
import pytest
import torch

from napari_unet.engine.click_hint import Hint, no_hint
from napari_unet.ops.clicks import Click, Window

WINDOW = Window(10, 10, 1.0, 9)


def halves(left=0.1):
    """Probable on the right, improbable on the left."""
    probability = np.full((21, 21), left, np.float32)
    probability[:, 10:] = 0.9
    return Hint(probability)


def test_what_agrees_with_the_clicks_is_told():
    told = halves().cut(WINDOW, [Click(10, 15), Click(10, 3, positive=False)])
    assert torch.allclose(told[:, 4:], torch.tensor(0.9))
    assert torch.allclose(told[:, :4], torch.tensor(0.1))


@pytest.mark.parametrize("there", [0.1, 0.4])
def test_what_denies_a_click_is_not(there):
    denying = halves(there).cut(WINDOW, [Click(10, 15), Click(10, 3)])
    assert torch.equal(denying, no_hint(WINDOW))
    assert (no_hint(WINDOW) == 0.5).all()
