"""Recipes: everything that decides how a labelled set becomes a model.

``paper`` is what Ronneberger et al. 2015 say they did; ``default`` is what measurement showed to be
best in an hour on two cores; ``nuclei`` is better than that for small objects that mostly lie
apart, in a third of the time. Every difference, with what it brought: docs/paper.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from napari_unet.engine.averaging import AVERAGINGS, Averaging
from napari_unet.engine.plan import Precision
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.engine.training.pace import ScheduleKind
from napari_unet.model.augment import AugmentConfig
from napari_unet.model.config import UNetConfig, pooling_for
from napari_unet.ops.errors import InputError
from napari_unet.ops.targets import OUTLINES, Outline

# Deformed patches are interpolated, which smooths them, and sections of one stack differ in focus:
# a network that saw neither sharper nor noisier images than its own fails on them. Figures:
# docs/paper.md.
_STRONG_GREY_VALUES = AugmentConfig(noise=0.1, contrast=0.3, gamma=0.3, sharpness=1.5)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train on dense labels.

    Attributes
    ----------
    name
        "paper", "default", "nuclei", or a name of your own.
    base_channels, depth, batch_norm, dropout, ndim
        Of the network, see `napari_unet.model.unet.UNetConfig`. With three dimensions, where
        planes are pooled follows from the spacing of the stacks.
    optimizer, learning_rate, momentum
        "sgd" or "adamw"; the momentum is SGD's.
    schedule
        "constant", or "decay": the learning rate falls to 0 over the last part of the time, or as
        soon as the validation measure has stopped rising.
    patch_size, batch
        Output side of the patches in pixels, rounded up to the network's pooling grid and not much
        larger than most images, and how many are in a step. Across planes, as far as in the plane.
    w0, sigma, balance
        Of the weight map, see `napari_unet.ops.weight_map.weight_map`.
    class_borders
        Whether semantic labels get the border term as well, between the connected regions of their
        classes. Instances always have it.
    outline
        Whether objects get a class of their own for their outline, see
        `napari_unet.ops.targets.dense_annotations`. Without effect on semantic labels.
    augment
        How patches are varied.
    averaging
        Over which versions of an image the prediction is averaged.
    """

    name: str = "default"
    base_channels: int = 32
    depth: int = 4
    batch_norm: bool = True
    dropout: float = 0.5
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    momentum: float = 0.99
    schedule: ScheduleKind = "decay"
    patch_size: int = 388
    batch: int = 1
    w0: float = 10.0
    sigma: float = 5.0
    balance: float = 0.0
    class_borders: bool = False
    outline: Outline = "none"
    augment: AugmentConfig = _STRONG_GREY_VALUES
    averaging: Averaging = "symmetries"
    ndim: int = 2

    def __post_init__(self) -> None:
        for value, allowed in (
            (self.schedule, ("constant", "decay")),
            (self.averaging, AVERAGINGS),
            (self.outline, OUTLINES),
        ):
            if value not in allowed:
                raise InputError(f"no {value!r} in a recipe; choose one of {', '.join(allowed)}")
        self.learning()  # refuses what no training could use

    def network(
        self, in_channels: int, classes: int, spacing: Sequence[float] | None = None
    ) -> UNetConfig:
        """Return the shape of the network for images of so many channels and so many classes.

        Parameters
        ----------
        in_channels, classes
            Of the images.
        spacing
            Of stacks: size of a voxel along each axis; None: all alike.
        """
        is_stack = self.ndim == 3
        return UNetConfig(
            in_channels,
            classes,
            self.base_channels,
            self.depth,
            self.batch_norm,
            self.dropout,
            ndim=self.ndim,
            pooling=pooling_for(spacing or (1, 1, 1), self.depth) if is_stack else (),
        )

    def learning(
        self, *, seed: int = 0, precision: Precision = "auto", device: str = "auto"
    ) -> FinetuneConfig:
        """Return how the weights learn, in the words of `napari_unet.engine.trainer`."""
        return FinetuneConfig(
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            w0=self.w0,
            sigma=self.sigma,
            balance=self.balance,
            patch_size=self.patch_size,
            batch=self.batch,
            augment=self.augment,
            precision=precision,
            device=device,
            seed=seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, all of them fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Make a recipe from what `to_dict` returned.

        Raises
        ------
        InputError
            If names are unknown or values out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"a recipe has no {', '.join(unknown)}; choose from {sorted(known)}")
        augment = AugmentConfig(**values.get("augment", {}))
        return cls(**{**values, "augment": augment})

    def changed(self, **values: Any) -> Recipe:
        """Return a copy with some values changed."""
        return replace(self, **values)


PAPER = Recipe(
    name="paper",
    base_channels=64,
    depth=4,
    batch_norm=False,
    dropout=0.5,
    optimizer="sgd",
    learning_rate=1e-3,
    momentum=0.99,
    schedule="constant",
    patch_size=388,  # figure 1: 572 pixels in, 388 out
    batch=1,
    w0=10.0,
    sigma=5.0,
    balance=1.0,
    class_borders=True,
    outline="none",
    augment=AugmentConfig(),
    averaging="rotations",
)
DEFAULT = Recipe()
NUCLEI = Recipe(
    name="nuclei",
    base_channels=16,
    depth=3,  # sees 44 pixels around each: further than a nucleus reaches
    dropout=0.0,
    patch_size=132,
    batch=6,
    outline="inner",
    # The paper's 10 pixels are for a tile of 388; on patches of a third of that they bend nuclei.
    augment=AugmentConfig(elastic_sigma=3.0, scale=0.2, noise=0.03, contrast=0.2, gamma=0.2),
)
STACK = Recipe(
    name="stack",
    ndim=3,
    base_channels=16,
    depth=2,  # each level more doubles the context along every axis: 8 times the voxels
    dropout=0.0,
    patch_size=44,
    batch=1,
    outline="inner",
    # Few stacks are labelled, and one part of a stack is dimmer than another: without these a
    # network calls the dim part background.
    balance=1.0,
    augment=AugmentConfig(
        elastic_sigma=2.0,
        scale=0.1,
        shift=4.0,
        brightness=0.2,
        contrast=0.5,
        gamma=0.5,
        noise=0.1,
    ),
    averaging="none",  # the sixteen symmetries of a stack take sixteen times as long
)
RECIPES = {recipe.name: recipe for recipe in (DEFAULT, NUCLEI, PAPER, STACK)}


def recipe_with(name: str, changes: Sequence[str]) -> Recipe:
    """Return a recipe with some values changed, as they are written on a command line.

    Parameters
    ----------
    name
        One of `RECIPES`.
    changes
        Such as "base_channels=16" or "augment.elastic_sigma=0".

    Raises
    ------
    InputError
        If there is no such recipe or value, or the value is not possible.
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if not changes:
        return recipe
    values = recipe.to_dict()
    for change in changes:
        key, _, text = change.partition("=")
        table = values
        *path, last = key.strip().split(".")
        for part in path:
            table = table.get(part, {}) if isinstance(table, dict) else {}
        if not isinstance(table, dict) or last not in table:
            known = ", ".join([*recipe.to_dict(), *(f"augment.{k}" for k in values["augment"])])
            raise InputError(f"a recipe has no {key!r}; it has {known}")
        table[last] = _value(key, text, table[last])
    return Recipe.from_dict(values).changed(name=f"{name}, changed")


def _value(key: str, text: str, like: Any) -> Any:
    """Read a value of the type that is there."""
    if isinstance(like, bool):
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        raise InputError(f"{key} = {text!r} is not possible; choose true or false")
    try:
        return type(like)(text)
    except ValueError as error:
        kind = "a whole number" if isinstance(like, int) else "a number"
        raise InputError(f"{key} = {text!r} is not possible; give {kind}") from error
