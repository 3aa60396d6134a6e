"""Standardisation by the moments of the training window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

ZERO_SCALE = 1e-12


@dataclass(frozen=True, slots=True)
class Scaler:
    """Mean and scale of F features.

    Attributes:
        mean: F means.
        scale: F standard deviations (ddof 0); 1 for a feature that did not vary.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> Self:
        """Moments over every axis but the last: all assets of a panel share one scale, whatever their order."""
        axes = tuple(range(values.ndim - 1))
        scale = values.std(axis=axes)
        return cls(tuple(values.mean(axis=axes).tolist()), tuple(np.where(scale < ZERO_SCALE, 1.0, scale).tolist()))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(tuple(values["mean"]), tuple(values["scale"]))

    def to_json(self) -> dict[str, Any]:
        """Plain values; floats survive JSON exactly."""
        return {"mean": list(self.mean), "scale": list(self.scale)}

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(values - mean) / scale, [..., F]."""
        scaled: NDArray[np.float64] = (values - np.array(self.mean)) / np.array(self.scale)
        return scaled
