"""Image layers whose channels are their last axis: napari takes rows for planes there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image

from napari_unet.ops.images import holds_channels_last
from napari_unet.viewer.channels import CHANNEL_LABELS, level_shape


def has_channels_last(layer: Image) -> bool:
    """Say whether the last axis of a layer holds channels: by its label, or as nothing else can be.

    Colours that napari shows as such (RGB) are none.
    """
    if layer.rgb or layer.ndim < 3 or not _is_upright(layer):
        return False
    labels = [str(label).lower() for label in layer.axis_labels]
    if labels[-1] in CHANNEL_LABELS:
        return True
    is_told = any(label in (*CHANNEL_LABELS, "y", "x") for label in labels)
    return not is_told and holds_channels_last(level_shape(layer))


def bring_channels_first(layer: Image) -> None:
    """Move the last axis of a layer, which holds channels, before all others; nothing is copied."""
    scale, translate = _moved(layer.scale), _moved(layer.translate)
    units, labels = _moved(layer.units), _moved(layer.axis_labels)
    data = layer.data
    layer.data = [_turned(level) for level in data] if layer.multiscale else _turned(data)
    layer.scale, layer.translate, layer.units = scale, translate, units
    layer.axis_labels = ("channel", *labels[1:])


def _is_upright(layer: Image) -> bool:
    """Whether it lies as napari puts it, so that its axes can change places."""
    ndim = layer.ndim
    return bool(
        np.allclose(layer.rotate, np.eye(ndim))
        and np.allclose(layer.shear, 0)
        and np.allclose(layer.affine.affine_matrix, np.eye(ndim + 1))
    )


def _moved(values: Sequence[Any]) -> tuple[Any, ...]:
    return (values[-1], *values[:-1])


def _turned(data: Any) -> Any:
    order = (data.ndim - 1, *range(data.ndim - 1))
    return data.transpose(order) if hasattr(data, "transpose") else np.transpose(data, order)
