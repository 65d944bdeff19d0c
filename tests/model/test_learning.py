"""Network, loss and patches together: what is painted on one patch can be learned by heart."""

import pytest
import torch

from napari_unet.model.augment import AugmentConfig, sample_patch
from napari_unet.model.losses import weighted_cross_entropy
from napari_unet.model.unet import UNet


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("batch_norm", [False, True])
def test_one_patch_is_learned_by_heart(seed, batch_norm):
    # Bright blocks on dark ground; only every third row is annotated.
    rows, columns = torch.meshgrid(torch.arange(80), torch.arange(80), indexing="ij")
    bright = (rows // 9 + columns // 9) % 2
    annotations = torch.where(rows % 3 == 0, 1 + bright, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = bright[None].float() + 0.2 * torch.randn(1, 80, 80)
        model = UNet(base_channels=16, depth=2, batch_norm=batch_norm, dropout=0.0).train()
    patch = sample_patch(
        image,
        annotations,
        torch.ones(80, 80),
        centre=(40, 40),
        input_size=76,
        output_size=36,
        config=AugmentConfig.none(),
        generator=torch.Generator(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = weighted_cross_entropy(model(patch.image), patch.annotations, patch.weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10
    found = model(patch.image).argmax(dim=1) + 1
    painted = patch.annotations > 0
    assert 0.3 < painted.float().mean() < 0.4
    assert (found == patch.annotations)[painted].float().mean() > 0.99
