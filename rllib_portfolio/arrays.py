"""The array type of the package."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
"""An array of floating-point numbers of any precision; docstrings give the shape."""
