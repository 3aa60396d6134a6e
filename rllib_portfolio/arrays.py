"""The array types of the package, and the library of functions that an array belongs to."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
"""An array of floating-point numbers of any precision; docstrings give the shape."""


def namespace(array: Any) -> Any:
    """Return `numpy` for a numpy array, and `torch` for a torch tensor.

    The accounting uses only functions that both libraries have under one name, so that it also runs on tensors, through
    which gradients flow. Torch is not imported here: a tensor exists only where it is imported already.

    Args:
        array: A numpy array or a torch tensor.
    """
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def take_rows(array: Any, rows: Any) -> Any:
    """Return `array[rows]`, which numpy's `take` computes in less time than an index.

    Args:
        array: A numpy array or a torch tensor, [T, ...].
        rows: Rows, [B], an array or a tensor as well.
    """
    return array.take(rows, axis=0) if isinstance(array, np.ndarray) else array[rows]
