"""Standardisation by training-window moments that are robust to a single outlying asset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from rllib_portfolio.arrays import FloatArray

ZERO_SCALE = 1e-12

LARGEST_INFLATION = 2.0
"""Outliers are left out if they multiply the standard deviation by more than this."""


@dataclass(frozen=True, slots=True)
class Scaler:
    """Means and standard deviations (ddof 0) of F features; the scale of a feature that did not vary is 1."""

    mean: list[float]
    scale: list[float]

    @classmethod
    def fit(cls, values: FloatArray, outliers: Sequence[float | None] = (), units: FloatArray | float = 1.0) -> Self:
        """Fit the moments over every axis but the last, so that all assets of a panel share one scale.

        Args:
            values: The training days, [T, F] or [T, N, F].
            outliers: For each of F features, the distance from the median, in median absolute deviations, beyond which
                a value is an outlier, or None for a feature without outliers. Outliers are left out of the moments of a
                feature if they inflate its standard deviation more than twofold; else they count as any other value.
            units: The usual daily move of each asset, [N], in which distances are measured, so that a more volatile
                asset is no outlier.
        """
        axes = tuple(range(values.ndim - 1))
        mean, scale = values.mean(axis=axes), values.std(axis=axes)
        for feature, distance in enumerate(outliers):
            if distance is None:
                continue
            usual = _without_outliers(values[..., feature], distance, units)
            if scale[feature] > LARGEST_INFLATION * usual.std() > LARGEST_INFLATION * ZERO_SCALE:
                mean[feature], scale[feature] = usual.mean(), usual.std()
        return cls(mean.tolist(), np.where(scale < ZERO_SCALE, 1.0, scale).tolist())

    def apply(self, values: FloatArray) -> FloatArray:
        """Return (values - mean) / scale, [..., F]."""
        scaled: FloatArray = (values - np.array(self.mean)) / np.array(self.scale)
        return scaled


def _without_outliers(values: FloatArray, largest: float, units: FloatArray | float) -> FloatArray:
    """Return the values of a feature, [T] or [T, N], flattened without outliers; an asset with unit 0 has none."""
    measured = values / np.where(units > ZERO_SCALE, units, np.nan)
    if np.isnan(measured).all():
        return values.ravel()
    distance = np.abs(measured - np.nanmedian(measured))
    usual: FloatArray = values[~(distance > largest * np.nanmedian(distance))]
    return usual
