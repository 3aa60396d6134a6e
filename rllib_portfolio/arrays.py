"""The array that the whole package computes with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
"""Floating-point numbers of either precision; docstrings give the shape."""
