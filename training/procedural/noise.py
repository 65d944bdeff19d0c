"""Random fields: smooth noise, textures and displacements of the plane, cheap enough to draw often.

Every field is float32 of the shape that is asked for. Lengths are in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shape = tuple[int, int]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform: sizes have no preferred scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def smooth(shape: Shape, scale: float, rng: np.random.Generator) -> Field:
    """Gaussian noise of mean 0 and variance 1 that varies over about `scale` pixels.

    Random knots, joined by cubic B-splines: four knots each way, whatever the scale.
    """
    scale = max(float(scale), 1.0)
    first, weights = _splines(shape[0], scale, rng)
    other, columns = _splines(shape[1], scale, rng)
    knots = rng.standard_normal((int(first[-1]) + 4, int(other[-1]) + 4), dtype=np.float32)
    # No matrix product: its threads would wait for each other where several programs draw.
    bands = sum(weights[:, tap, None] * knots[first + tap] for tap in range(4))
    turned = np.ascontiguousarray(np.asarray(bands, np.float32).T)
    field = sum(columns[:, tap, None] * turned[other + tap] for tap in range(4))
    return np.asarray(np.ascontiguousarray(np.asarray(field).T), np.float32)


def _splines(
    length: int, scale: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Field]:
    """First knot of every pixel of one axis, and the weights of four, (length, 4), of norm 1."""
    place = np.arange(length, dtype=np.float32) / scale + rng.random(dtype=np.float32)
    first = place.astype(np.int64)
    t = place - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return first, weights.astype(np.float32)


def fractal(
    shape: Shape, scale: float, rng: np.random.Generator, octaves: int = 4, fall: float = 0.5
) -> Field:
    """Smooth noise of `scale`, half of it, a quarter, ..., each `fall` times as strong."""
    total = np.zeros(shape, np.float32)
    power = 0.0
    for octave in range(octaves):
        if octave and scale / 2**octave < 1:
            break
        total += fall**octave * smooth(shape, scale / 2**octave, rng)
        power += fall ** (2 * octave)
    return total / np.float32(np.sqrt(power))


def standardised(field: NDArray[np.floating]) -> Field:
    """Shift and scale to mean 0 and variance 1."""
    field = field - field.mean()
    return np.asarray(field / (field.std() + 1e-6), np.float32)


def displaced(
    shape: Shape, scale: float, amplitude: float, rng: np.random.Generator
) -> tuple[Field, Field]:
    """Rows and columns of the plane, moved by smooth noise of standard deviation `amplitude`."""
    rows, columns = (np.arange(length, dtype=np.float32) for length in shape)
    if amplitude <= 0:
        y, x = np.broadcast_arrays(rows[:, None], columns[None])
        return y.copy(), x.copy()
    return (
        rows[:, None] + np.float32(amplitude) * smooth(shape, scale, rng),
        columns[None] + np.float32(amplitude) * smooth(shape, scale, rng),
    )


def spectral(
    shape: Shape,
    rng: np.random.Generator,
    wavelength: float,
    bandwidth: float = 0.5,
    angle: float | None = None,
    spread: float = 0.4,
) -> Field:
    """Noise with a chosen spectrum: around one wavelength, and along one direction if asked.

    Parameters
    ----------
    shape
        Rows and columns.
    rng
        Decides the phases.
    wavelength
        The strongest one, in pixels.
    bandwidth
        Standard deviation of the spectrum in octaves: 0.1 gives regular waves, 2 gives clouds.
    angle
        Direction of the waves in radians; None has waves in all directions.
    spread
        How far directions scatter around `angle`, in radians.
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    y = fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    x = fft.rfftfreq(shape[1]).astype(np.float32)[None]
    frequency = np.hypot(y, x) + np.float32(1e-6)
    gain = np.exp(-0.5 * (np.log2(frequency * wavelength) / bandwidth) ** 2) / frequency
    if angle is not None:
        cosine = np.abs(y * np.sin(angle) + x * np.cos(angle)) / frequency
        gain *= np.exp(-0.5 * (np.arccos(np.minimum(cosine, 1)) / spread) ** 2)
    return standardised(fft.irfft2(fft.rfft2(white) * gain, shape))


def cellular(shape: Shape, spacing: float, rng: np.random.Generator) -> Field:
    """Distance to the nearest of random points (Worley noise); mean 0, variance 1."""
    points = np.ones(shape, bool)
    count = max(3, int(shape[0] * shape[1] / spacing**2))
    points[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = False
    return standardised(ndimage.distance_transform_edt(points))


def speckles(shape: Shape, spacing: float, size: float, rng: np.random.Generator) -> Field:
    """Soft dots of random brightness on nothing; mean 0, variance 1."""
    dots = np.zeros(shape, np.float32)
    count = max(3, int(shape[0] * shape[1] / spacing**2))
    dots[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = rng.exponential(
        size=count
    )
    return standardised(ndimage.gaussian_filter(dots, size, truncate=3))


def texture(shape: Shape, rng: np.random.Generator, scale: float | None = None) -> Field:
    """Any texture: grain, clouds, waves, labyrinths, cells, specks, fibres; mean 0, variance 1.

    Parameters
    ----------
    shape
        Rows and columns.
    rng
        Decides the kind and all its parameters.
    scale
        Size of its parts in pixels; drawn between 2 and 24 if None.
    """
    scale = log_uniform(rng, 2, 24) if scale is None else max(scale, 1.5)
    kind = rng.integers(9)
    angle = rng.uniform(0, np.pi)
    if kind == 0:
        return standardised(fractal(shape, scale * 2, rng, 5, rng.uniform(0.4, 0.9)))
    if kind == 1:
        return spectral(shape, rng, scale, rng.uniform(0.2, 1.5))
    if kind == 2:
        return spectral(shape, rng, scale, rng.uniform(0.1, 0.8), angle, rng.uniform(0.05, 0.5))
    if kind == 3:  # labyrinths and blotches with sharp edges
        waves = spectral(shape, rng, scale * 1.5, rng.uniform(0.15, 0.6))
        return standardised(np.tanh(4 * (waves + rng.uniform(-1, 1))))
    if kind == 4:
        return cellular(shape, scale * 1.5, rng) * np.float32(rng.choice([-1, 1]))
    if kind == 5:
        return speckles(shape, scale * rng.uniform(1, 3), max(0.6, scale / 5), rng)
    if kind == 6:  # thin ridges in all directions, or along one
        along = angle if rng.random() < 0.5 else None
        ridges = np.abs(spectral(shape, rng, scale * 2, 0.5, along, 0.3))
        return standardised(-np.minimum(ridges, 1)) * np.float32(rng.choice([-1, 1]))
    if kind == 7:  # regular stripes, a little bent
        return stripes(shape, scale, angle, rng)
    return standardised(smooth(shape, max(scale / 2, 1), rng))


def natural(shape: Shape, rng: np.random.Generator, scale: float) -> Field:
    """Grain as living matter has it: clouds, blotches, specks; seldom any other texture."""
    way = rng.random()
    if way < 0.35:
        return standardised(fractal(shape, scale * 2, rng, 5, rng.uniform(0.4, 0.9)))
    if way < 0.6:
        return spectral(shape, rng, max(scale, 2) * 1.5, rng.uniform(0.5, 1.5))
    if way < 0.8:
        return speckles(shape, scale * rng.uniform(1, 3), max(0.6, scale / 4), rng)
    return texture(shape, rng, scale)


def stripes(shape: Shape, wavelength: float, angle: float, rng: np.random.Generator) -> Field:
    """Waves across `angle`, bent by smooth noise; mean 0, variance about 1."""
    wavelength = max(wavelength, 2.5)
    y, x = displaced(
        shape, wavelength * rng.uniform(3, 10), wavelength * rng.uniform(0.1, 0.7), rng
    )
    phase = (y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle))) / wavelength
    waves = np.cos(np.float32(2 * np.pi) * phase)
    sharpness = rng.uniform(0.5, 4)
    return standardised(np.tanh(sharpness * (waves + rng.uniform(-0.6, 0.6))))
