"""Our network as an ONNX graph that any runner can cut into tiles.

Our network takes more than it answers for, and tiles whose origins lie on its pooling grid. Other
programs know padded networks that answer for every pixel, and cut a halo off. So the graph mirrors
what it is given by the network's halo before it begins. What a runner has to cut off, the declared
halo, is the network's, rounded up to a multiple of the stride: then every tile of a size that is a
multiple of the stride starts on the pooling grid that the whole image has, and the answer does not
depend on how the image is cut.

::

    given to the graph      |-- cut off --|=========== kept ===========|-- cut off --|
    seen by the network |mirror|-----------------------------------------------|mirror|
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.model.folding import fold_batch_norm
from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.model.zoo.extra import needed
from napari_unet.model.zoo.onnx_file import METADATA_KEY

#: Of 2021; everything that the network needs is in it, and older runners know it.
OPSET: Final = 17
INPUT: Final = "image"
OUTPUT: Final = "probability"


@dataclass(frozen=True, slots=True)
class GraphAxis:
    """What the graph asks for along an axis: sizes `smallest` + n * `step`, `halo` cut off."""

    smallest: int
    step: int
    halo: int


def graph_axes(config: UNetConfig) -> tuple[GraphAxis, ...]:
    """Return what the graph of a network asks for along each axis of the image."""
    found = []
    for geometry in config.geometries:
        halo = -(-geometry.halo // geometry.stride) * geometry.stride
        # Mirroring needs more pixels than it adds, and something is to be left of a tile.
        found.append(GraphAxis(2 * halo + geometry.stride, geometry.stride, halo))
    return tuple(found)


class PaddedNetwork(nn.Module):
    """A network that answers with a probability of each class for every pixel that it is given.

    Parameters
    ----------
    model
        The network; it is copied.
    """

    def __init__(self, model: UNet) -> None:
        super().__init__()
        self.network = fold_batch_norm(model).float().cpu()
        geometries = model.config.geometries
        # functional.pad begins with the last axis.
        self._mirrored = [
            pixels for g in reversed(geometries) for pixels in (g.halo, g.halo + g.surplus)
        ]
        self._surplus = [g.surplus for g in geometries]

    def forward(self, image: Tensor) -> Tensor:
        """Compute probabilities, shape (N, classes, ...), of normalised images (N, C, ...)."""
        logits = self.network(functional.pad(image, self._mirrored, mode="reflect"))
        for axis, surplus in enumerate(self._surplus, start=2):
            logits = logits.narrow(axis, 0, image.shape[axis]) if surplus else logits
        return torch.softmax(logits, dim=1)


def to_onnx(model: UNet, description: Mapping[str, Any]) -> bytes:
    """Write a network as ONNX.

    Parameters
    ----------
    model
        The network.
    description
        How it is to be used, in the words of a package's description; kept in the metadata.

    Returns
    -------
    bytes
        An ONNX file of one input "image", float32 (N, C, Y, X) or (N, C, Z, Y, X), and one output
        "probability", float32 (N, classes, ...), of any size that `graph_axes` allows.

    Raises
    ------
    InputError
        If the libraries that it takes are not installed.
    """
    onnx = needed("onnx")
    sizes = [axis.smallest + axis.step for axis in graph_axes(model.config)]
    example = torch.zeros(1, model.config.in_channels, *sizes)
    names = {n: f"side_{n - 1}" for n in range(2, 2 + len(sizes))}
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter that traces: the newer one takes forty times as long for the same graph, and
        # warns of its own parts. Sides are checked by the network itself, which tracing notes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            PaddedNetwork(model).eval(),
            (example,),
            file,  # type: ignore[arg-type]  # any binary file will do
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch", **names}, OUTPUT: {0: "batch", **names}},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(file.getvalue())
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(description)})
    onnx.checker.check_model(graph)
    contents: bytes = graph.SerializeToString()
    return contents
