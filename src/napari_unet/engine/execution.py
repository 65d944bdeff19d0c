"""How a network is run: precision, layout, fusion, and which algorithms a GPU may take."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from scipy.special import softmax
from torch import nn

from napari_unet.engine.recorded import Recorded
from napari_unet.model.folding import fold_batch_norm
from napari_unet.model.fused import PixelLayers, can_fuse, fuse
from napari_unet.model.unet import UNet

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """Where and how the network runs.

    Attributes
    ----------
    device
        The device that computes.
    dtype
        ``torch.float32``, ``torch.bfloat16`` or, on a GPU, ``torch.float16``. In prediction the
        weights are cast to it, in training they stay float32 and the convolutions run under
        autocast.
    channels_last
        Whether tensors are laid out (N, H, W, C) in memory, or (N, D, H, W, C).
    seconds
        What was measured, one entry per candidate, by name.
    ndim
        The number of axes of the images.
    fused
        Whether prediction computes a convolution and its ReLU in one (`napari_unet.model.fused`).
    exact
        Whether the bits of the answer may depend neither on the number of threads nor on the run; a
        GPU then takes no lower precision inside.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    seconds: tuple[tuple[str, float], ...] = ()
    ndim: int = 2
    fused: bool = False
    exact: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout, as torch names it."""
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if self.ndim == 2 else torch.channels_last_3d

    @property
    def name(self) -> str:
        """The plan in a few words."""
        layout = "channels last" if self.channels_last else "channels first"
        fused = ", fused" if self.fused else ""
        return f"{_NAMES[self.dtype]}, {layout}{fused}, {self.device}"

    @property
    def reason(self) -> str:
        """Why this one, in a sentence without its end."""
        if self.exact:
            return "float32, so that every run gives the same"
        if not self.seconds:
            return "as it was set"
        return "the quickest on one thread, if by 15 % where it is lower"

    def for_prediction(self, model: UNet) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from a float32 batch to float32 probabilities, on a copy of `model`.

        The copy has its BatchNorm folded away and does not follow `model` when that learns on.
        """
        network = self._running_copy(model)
        # Logits rounded to bfloat16 would move a probability by 0.015 on their own.
        last_layers = [*network.side_outputs]
        if self.device.type == "cpu" and self.channels_last and not self.exact:
            network.output = PixelLayers(network.output, network.hidden)
            network.hidden = nn.Sequential()
        else:
            last_layers += [network.output, network.hidden]
        for layer in last_layers:
            layer.float()
            layer.register_forward_pre_hook(_in_float32)

        answer: Callable[[torch.Tensor], torch.Tensor] = network
        if not self.exact:
            answer = _with_softmax(network)
            answer = Recorded(answer) if self.device.type == "cuda" else answer

        @torch.inference_mode()
        def probabilities(batch: torch.Tensor) -> torch.Tensor:
            with self._algorithms():
                found = answer(self._brought(batch))
            if not self.exact:
                return found.cpu()
            # torch rounds the exponential in another way where a thread's share ends.
            return torch.from_numpy(softmax(found.cpu().numpy(), axis=1))

        return probabilities

    def for_features(self, model: UNet) -> Callable[[torch.Tensor], list[torch.Tensor]]:
        """Return a function from a float32 batch to `UNet.feature_maps`, on a copy of `model`.

        The maps have the plan's precision and stay on its device.
        """
        network = self._running_copy(model)

        @torch.inference_mode()
        def maps(batch: torch.Tensor) -> list[torch.Tensor]:
            with self._algorithms():
                return network.feature_maps(self._brought(batch))

        return maps

    def _brought(self, batch: torch.Tensor) -> torch.Tensor:
        """Bring a batch to the device, in the plan's precision and layout."""
        if self.device.type == "cuda" and batch.device.type == "cpu":
            # Without waiting: what the device computes before goes on meanwhile.
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device, self.dtype).contiguous(memory_format=self.memory_format)

    def _algorithms(self) -> AbstractContextManager[object]:
        """Return the context that says which algorithms a GPU may take."""
        if self.device.type != "cuda":
            return nullcontext()
        # Tiles have one shape, so looking for the fastest algorithm pays from the second one on.
        return torch.backends.cudnn.flags(
            enabled=True,
            benchmark=not self.exact,
            deterministic=self.exact,
            allow_tf32=not self.exact,
        )

    def _running_copy(self, model: UNet) -> UNet:
        network = _frozen_copy(model).to(self.device, self.dtype)
        network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        # The plan may come from another machine.
        can = self.fused and self.device.type == "cpu" and can_fuse(self.dtype, self.ndim)
        return fuse(network) if can else network

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which a training step computes."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def _frozen_copy(model: UNet) -> UNet:
    folded = fold_batch_norm(model) if model.config.batch_norm else copy.deepcopy(model)
    return folded.eval().requires_grad_(False)


def _with_softmax(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    def probabilities(batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = network(batch).softmax(dim=1)
        return found

    return probabilities


def _in_float32(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.float() for tensor in inputs)
