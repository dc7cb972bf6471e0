"""Synthetic inputs of stated distributions, for models whose domain has no data here.

Every function is given the number of a first sample, which seeds the generator: samples of other numbers are others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]

RATE = 16_000
"""Samples a second of a stream of sound: what the models of speech here take."""

_NOTES = 0.35
"""Mean seconds from one note of a stream to the next. Chosen: some notes in each window of a model."""


def stream(first: int, count: int, rate: int = RATE) -> Single:
    """Return `count` samples of sound between -1 and 1, in one stream.

    Notes of 80 to 1,200 Hz with six harmonics, gliding by up to a fifth, begin at random, ring for 0.1 to 0.6 s and
    overlap; beside them pink noise whose level changes.
    """
    rng = np.random.default_rng(first)
    made = np.zeros(count)
    for begin in np.cumsum(rng.exponential(_NOTES * rate, max(1, int(2 * count / rate / _NOTES)))).astype(int):
        length = min(int(rng.uniform(0.1, 0.6) * rate), count - begin)
        if length > 0:
            made[begin : begin + length] += _note(rng, length, rate)
    level = np.repeat(rng.uniform(0.0, 0.15, count // rate + 1), rate)[:count]
    made += level * _pink(rng, count)
    return np.asarray(0.5 * np.tanh(made), dtype=np.float32)


def _note(rng: np.random.Generator, length: int, rate: int) -> NDArray[np.float64]:
    pitch, glide = np.exp(rng.uniform(np.log(80), np.log(1200))), rng.uniform(-0.5, 0.5)
    moment = np.arange(length) / rate
    phase = 2 * np.pi * pitch * (moment + 0.5 * glide * moment**2 * rate / length)
    parts = sum(np.sin(order * phase + rng.uniform(0, 6)) * rng.uniform() / order for order in range(1, 7))
    return np.asarray(parts * np.sin(np.pi * np.arange(length) / length) * rng.uniform(0.2, 1.0))


def _pink(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return noise whose power falls with the frequency, of variance 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.sqrt(np.arange(len(spectrum)) + 1.0)
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise / noise.std())


def pictures(first: int, count: int, height: int, width: int) -> Single:
    """Return random fields between 0 and 1, shape (count, height, width, 3).

    Each colour is a sum of uniform noise on grids of 2 to 64 pixels, coarse ones weighing more: about the spectrum of a
    photograph, but no object is in it.
    """
    rng = np.random.default_rng(first)
    made = np.zeros((count, height, width, 3))
    for size in (2, 4, 8, 16, 32, 64):
        grid = rng.uniform(size=(count, -(-height // size), -(-width // size), 3))
        made += size**0.5 * grid.repeat(size, axis=1).repeat(size, axis=2)[:, :height, :width]
    made -= made.min(axis=(1, 2, 3), keepdims=True)
    return np.asarray(made / made.max(axis=(1, 2, 3), keepdims=True), dtype=np.float32)


def switches(first: int, count: int, channels: int, length: int) -> Single:
    """Return signals that are 0 or 1 and change after 5 steps in the mean, shape (count, channels, length)."""
    rng = np.random.default_rng(first)
    flips = rng.uniform(size=(count, channels, length)) < 0.2
    return np.asarray((flips.cumsum(axis=-1) + rng.integers(0, 2, (count, channels, 1))) % 2, dtype=np.float32)


def brainwaves(first: int, count: int, seconds: int) -> Single:
    """Return spectrograms of pink noise with bursts of 3 to 30 Hz, shape (count, 100, 2 * seconds - 1).

    Segments of a second at 500 Hz, half a second apart, 0 to 99 Hz; each frequency has mean 0 and variance 1 over time.
    """
    from scipy.signal import spectrogram

    rate = 500
    rng = np.random.default_rng(first)
    waves = np.stack([_pink(rng, seconds * rate) for _ in range(count)])
    moment = np.arange(seconds * rate) / rate
    for wave in waves:
        begin, length = rng.uniform(0, seconds), rng.uniform(1, seconds / 2)
        inside = (moment >= begin) & (moment < begin + length)
        wave += inside * rng.uniform(0, 4) * np.sin(2 * np.pi * rng.uniform(3, 30) * moment)
    power = spectrogram(waves, rate, nperseg=rate, noverlap=rate // 2, axis=1)[2][:, :100]
    power -= power.mean(axis=2, keepdims=True)
    return np.asarray(power / power.std(axis=2, keepdims=True), dtype=np.float32)
