"""What colour, microscope and camera make of the light of a scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from procedural.noise import Field, log_uniform, smooth, spectral

# Usual stains: absorbance of red, green and blue light (Ruifrok and Johnston 2001, and others).
_STAINS = np.array(
    [
        [0.65, 0.70, 0.29],  # haematoxylin
        [0.07, 0.99, 0.11],  # eosin
        [0.27, 0.57, 0.78],  # diaminobenzidine, brown
        [0.87, 0.48, 0.11],  # methyl green and blue
        [0.21, 0.85, 0.48],  # fast red
        [0.75, 0.65, 0.15],  # violet
    ]
)


def scaled(light: Field) -> Field:
    """Scale to 0..1 by the 0.5th and the 99.5th percentile; what lies beyond is kept."""
    low, high = np.percentile(light, (0.5, 99.5))
    if high - low < 1e-6:  # sparse objects on an even ground
        low, high = light.min(), light.max()
    return np.asarray((light - low) / max(high - low, 1e-6), np.float32)


def coloured(
    light: Field, regions: NDArray[np.uint8], rng: np.random.Generator, absorbing: bool
) -> Field:
    """Give each region a colour: stains that absorb, dyes that shine, or one tint for all.

    Parameters
    ----------
    light
        Shape (Y, X), about 0..1.
    regions
        Shape (Y, X), 1 to K.
    rng
        Chooses the colours.
    absorbing
        True for stained tissue: always stains on a white ground.

    Returns
    -------
    ndarray of float32, shape (Y, X, 3)
        About 0..1.
    """
    way = 0 if absorbing else rng.integers(3)
    count = int(regions.max()) + 1
    if way == 0:
        stains = rng.dirichlet((0.8, 1.0, 0.8), 2)  # absorbance of red, green and blue
        if rng.random() < 0.6:
            stains = rng.permutation(_STAINS)[:2] * np.exp(rng.normal(0, 0.15, (2, 3)))
        stains = stains / stains.max(axis=1, keepdims=True)
        amounts = rng.beta(0.6, 0.6, (count, 1))
        mix = amounts * stains[0] + (1 - amounts) * stains[1]
        absorbance = _spread(mix, regions, rng)
        absorbance *= 1 + 0.1 * smooth(light.shape, 20, rng)[..., None]
        white = rng.uniform(0.85, 1, 3)
        density = np.clip(1.1 - light, 0, 2)[..., None] * log_uniform(rng, 0.7, 2.5)
        return np.asarray(white * np.exp(-density * absorbance), np.float32)
    if way == 1:
        hues = rng.dirichlet((0.5, 0.5, 0.5), count)
        hues /= hues.max(axis=1, keepdims=True)
        if rng.random() < 0.7:  # the ground has no dye
            hues[1] = rng.uniform(0.5, 1)
        return np.clip(light, 0, None)[..., None] * _spread(hues, regions, rng)
    tint = np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
    image = light[..., None] * tint
    shift = rng.uniform(-1.5, 1.5, 2)  # the lens breaks colours differently
    image[..., 0] = ndimage.shift(image[..., 0], shift, order=1, mode="nearest")
    image[..., 2] = ndimage.shift(image[..., 2], -shift, order=1, mode="nearest")
    for channel in range(3):
        image[..., channel] += rng.uniform(0, 0.08) * smooth(light.shape, rng.uniform(2, 60), rng)
    return image


def _spread(
    values: NDArray[np.float64], regions: NDArray[np.uint8], rng: np.random.Generator
) -> Field:
    """Spread colours over regions, a little soft at their edges."""
    field = values.astype(np.float32)[regions]
    sigma = rng.uniform(0.4, 1.2)
    return np.stack(
        [ndimage.gaussian_filter(field[..., c], sigma, truncate=3) for c in range(3)], axis=-1
    )


def photograph(light: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Take the picture of a scene.

    Parameters
    ----------
    light
        Shape (Y, X) or (Y, X, 3), float32, about 0..1.
    rng
        Decides about everything that a microscope and a camera do.

    Returns
    -------
    image, clean : ndarrays of float32, same shape, 0..1
        With and without blur, uneven light and noise. Contrast, gamma and grey range are the same.
    """
    light = np.clip(light, -0.3, 1.3) * np.float32(0.8) + np.float32(0.1)
    if light.ndim == 2 and rng.random() < 0.4:
        light = 1 - light
    blurred = _each_channel(light, _blur(rng))
    seen = blurred * _illumination(light.shape[:2], rng) if light.ndim == 2 else blurred
    if light.ndim == 3 and rng.random() < 0.5:
        seen = blurred * np.sqrt(_illumination(light.shape[:2], rng))[..., None]
    seen = _noisy(np.clip(seen, 0, None), rng)
    gamma = float(np.exp(rng.normal(0, 0.3)))
    gain = log_uniform(rng, 0.9, 1.5) if rng.random() < 0.3 else 1.0
    low = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
    high = rng.uniform(low + 0.25, 1) if rng.random() < 0.5 else 1.0
    image, clean = (
        low + (high - low) * np.clip(np.clip(part, 0, None) ** gamma * gain, 0, 1)
        for part in (seen, light)
    )
    image = _stored(image, rng)
    return image.astype(np.float32), clean.astype(np.float32)


def _each_channel(image: Field, change: _Blur) -> Field:
    if image.ndim == 2:
        return change(image)
    return np.stack([change(image[..., c]) for c in range(3)], axis=-1)


class _Blur:
    """Point spread function: Gaussian, disc out of focus, haze, or focus that fades sideways."""

    def __init__(
        self, sigma: tuple[float, float], disc: int = 0, haze: float = 0.0, mix: float = 0.0
    ) -> None:
        self._sigma, self._disc, self._haze, self._mix = sigma, disc, haze, mix

    def __call__(self, image: Field) -> Field:
        sharp = ndimage.gaussian_filter(image, self._sigma, truncate=3, mode="nearest")
        if self._disc:
            sharp = ndimage.uniform_filter(sharp, self._disc, mode="nearest")
        if self._haze:
            # A wide filter on every fourth pixel is as good.
            wide = ndimage.gaussian_filter(image[::4, ::4], 4, mode="nearest")
            wide = wide.repeat(4, axis=0).repeat(4, axis=1)[: image.shape[0], : image.shape[1]]
            wide = ndimage.uniform_filter(wide, 5)
            sharp = (1 - self._haze) * sharp + self._haze * wide
        if self._mix:
            ramp = np.linspace(0, self._mix, image.shape[1], dtype=np.float32)
            wide = [2.5 * sigma for sigma in self._sigma]
            soft = ndimage.gaussian_filter(image, wide, truncate=2, mode="nearest")
            sharp = (1 - ramp) * sharp + ramp * soft
        return np.asarray(sharp, np.float32)


def _blur(rng: np.random.Generator) -> _Blur:
    sigma = log_uniform(rng, 0.4, 1.3) if rng.random() < 0.75 else log_uniform(rng, 1.3, 2.8)
    disc = int(rng.integers(2, 6)) if rng.random() < 0.12 else 0
    haze = rng.uniform(0.1, 0.5) if rng.random() < 0.25 else 0.0
    mix = rng.uniform(0.3, 1) if rng.random() < 0.12 else 0.0
    longer = rng.uniform(1.5, 3) if rng.random() < 0.06 else 1.0  # one axis resolves less
    axes = (sigma, sigma * longer) if rng.random() < 0.5 else (sigma * longer, sigma)
    return _Blur(axes, disc, haze, mix)


def _illumination(shape: tuple[int, ...], rng: np.random.Generator) -> Field:
    """Light that falls off to the corners, to one side, or is uneven; at most 1."""
    rows, columns = shape
    y = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, columns, dtype=np.float32)[None]
    light = np.ones((rows, columns), np.float32)
    if rng.random() < 0.4:
        row, column = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
        light -= np.float32(rng.uniform(0, 0.35)) * ((y - row) ** 2 + (x - column) ** 2) / 2
    if rng.random() < 0.4:
        slope = rng.normal(0, 0.15, 2).astype(np.float32)
        light += slope[0] * y + slope[1] * x
    if rng.random() < 0.3:
        light += rng.uniform(0, 0.15) * smooth((rows, columns), max(rows, columns) / 3, rng)
    return np.asarray(np.maximum(light / light.max(), 0.15), np.float32)


def _noisy(light: Field, rng: np.random.Generator) -> Field:
    """Photon noise, read noise, grain of film or dust, lines; coarse if pixels were enlarged."""
    shape = light.shape
    coarse = log_uniform(rng, 1.2, 3.5) if rng.random() < 0.25 else 1.0
    if coarse > 1:
        light = _resized(light, tuple(max(8, int(n / coarse)) for n in shape[:2]), 1)
    # Enlarged noise is harder to see through.
    strength = log_uniform(rng, 0.0015, 0.13 if coarse == 1 else 0.08)
    share = rng.random()  # of the noise that grows with the light
    sigma = strength * np.sqrt((1 - share) + share * np.clip(light, 0, None) / 0.5)
    image = light + sigma * rng.standard_normal(light.shape, dtype=np.float32)
    if rng.random() < 0.15:  # grain that spans pixels
        grain = spectral(light.shape[:2], rng, rng.uniform(2.5, 6), 0.6)
        image = image + strength * (grain if light.ndim == 2 else grain[..., None])
    if rng.random() < 0.12:  # lines of a scanning beam or of the camera
        axis = int(rng.integers(2))
        lines: Field = rng.standard_normal(light.shape[axis : axis + 1], dtype=np.float32)
        if rng.random() < 0.4:
            waves = np.arange(len(lines)) * 2 / rng.uniform(1, 8)
            lines = np.asarray(1.4 * np.sin(waves), np.float32)
        lines = lines[:, None] if axis == 0 else lines[None]
        image = image + rng.uniform(0.2, 0.6) * strength * (
            lines if light.ndim == 2 else lines[..., None]
        )
    if rng.random() < 0.06:  # dead and hot pixels
        hit = rng.random(light.shape[:2]) < log_uniform(rng, 3e-4, 8e-3)
        image[hit] = rng.uniform(0, 1)
    if coarse > 1:
        image = _resized(image, shape[:2], int(rng.choice([0, 1, 1, 3])))
    elif rng.random() < 0.1:  # somebody smoothed it
        image = _each_channel(image.astype(np.float32), _Blur((rng.uniform(0.5, 1.2),) * 2))
    return np.asarray(image, np.float32)


def _resized(image: Field, shape: tuple[int, ...], order: int) -> Field:
    """Resample to a shape; each new pixel is the mean of the old ones if there are fewer."""
    if image.ndim == 3:
        return np.stack([_resized(image[..., c], shape, order) for c in range(3)], axis=-1)
    if shape[0] < image.shape[0]:
        image = ndimage.uniform_filter(image, max(1, round(image.shape[0] / shape[0])))
    zoom = [new / old for new, old in zip(shape, image.shape, strict=True)]
    resized = ndimage.zoom(image, zoom, order=order, mode="nearest", grid_mode=True)
    return np.asarray(resized[: shape[0], : shape[1]], np.float32)


def _stored(image: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """Few grey levels, blocks of a lossy format; 0..1."""
    if rng.random() < 0.15:
        image = _blocky(image, log_uniform(rng, 0.003, 0.04))
    levels = 2.0 ** rng.integers(4, 9) - 1 if rng.random() < 0.2 else 255.0
    return np.asarray(np.clip(np.rint(image * levels) / levels, 0, 1))


def _blocky(image: NDArray[np.floating], coarseness: float) -> NDArray[np.floating]:
    """Round the cosine transform of blocks of 8 x 8 pixels, high frequencies the most."""
    if image.ndim == 3:
        return np.stack([_blocky(image[..., c], coarseness) for c in range(3)], axis=-1)
    rows, columns = (length // 8 * 8 for length in image.shape)
    blocks = image[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8)
    steps = coarseness * (1 + np.add.outer(np.arange(8), np.arange(8)))[None, :, None, :]
    known = fft.dctn(blocks, axes=(1, 3), norm="ortho")
    result = image.copy()
    rounded = fft.idctn(np.rint(known / steps) * steps, axes=(1, 3), norm="ortho")
    result[:rows, :columns] = rounded.reshape(rows, columns)
    return result
