"""The matrix products of PPO's updates and nothing else: what no implementation with this network can do without."""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.throughput.setting import Setting
from benchmarks.throughput.stopwatch import Watched


class MatrixProducts:
    """Three products for each linear layer and minibatch: outputs, gradient of weights, gradient of inputs.

    The first layer's inputs are observations, which need no gradient. Results go into preallocated arrays. Sampling is
    left out: its products are one in thirty of these.
    """

    def __init__(self, setting: Setting, market_path: Path) -> None:
        self._setting = setting
        rows = setting.minibatch_size
        self._layers = []
        for inputs, outputs in _linear_layers(setting):
            shapes = {"x": (rows, inputs), "y": (rows, outputs), "w": (inputs, outputs)}
            self._layers.append({name: torch.randn(shape) for name, shape in shapes.items()})
        self._results = [{name: torch.empty_like(array) for name, array in layer.items()} for layer in self._layers]

    def sample(self) -> int:
        raise NotImplementedError

    def train(self) -> int:
        num_minibatches = self._setting.num_epochs * self._setting.batch_size // self._setting.minibatch_size
        for _ in range(num_minibatches):
            for i, (layer, result) in enumerate(zip(self._layers, self._results, strict=True)):
                torch.mm(layer["x"], layer["w"], out=result["y"])
                torch.mm(layer["x"].T, layer["y"], out=result["w"])
                if i > 0:
                    torch.mm(layer["y"], layer["w"].T, out=result["x"])
        return self._setting.batch_size

    def watched(self) -> Sequence[Watched]:
        return []

    def close(self) -> None:
        pass


def _linear_layers(setting: Setting) -> list[tuple[int, int]]:
    """Inputs and outputs of every linear layer of the network, the trunk's first."""
    branch = list(pairwise(setting.hidden_sizes))
    last = setting.hidden_sizes[-1]
    trunk = (setting.observation_size, setting.hidden_sizes[0])
    return [trunk, *branch, (last, setting.action_size), *branch, (last, 1)]
