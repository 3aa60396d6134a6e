"""Walking environments with given actions, and comparing what they said exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray


class Step(NamedTuple):
    """The result of a step of an environment; a reset has reward 0 and ends no episode."""

    observation: NDArray[np.float32]
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


def sampled_actions(space: gym.Space[Any], num_steps: int, seed: int = 0) -> list[Any]:
    """Random actions; the space's own random stream is left alone."""
    space = deepcopy(space)
    space.seed(seed)
    return [space.sample() for _ in range(num_steps)]


def walk(env: gym.Env[Any, Any], actions: Iterable[Any], seed: int | None = None) -> list[Step]:
    """Reset, then step with each action. The step after an end resets, ignores its action and pays 0."""
    observation, info = env.reset(seed=seed)
    return walk_on(env, actions, Step(observation, 0.0, False, False, info))


def walk_on(env: gym.Env[Any, Any], actions: Iterable[Any], last: Step) -> list[Step]:
    """Go on with an environment whose last answer was `last`, which comes first in the result."""
    steps = [last]
    for action in actions:
        if steps[-1].truncated:
            observation, info = env.reset()
            steps.append(Step(observation, 0.0, False, False, info))
        else:
            steps.append(Step(*env.step(action)))
    return steps


def walk_vector(env: gym.vector.VectorEnv[Any, Any, Any], actions: Iterable[Any], seed: int) -> list[Step]:
    """Reset, then step with each batch of actions."""
    observation, info = env.reset(seed=seed)
    zeros = np.zeros(env.num_envs)
    return [Step(observation, zeros, zeros > 0, zeros > 0, info), *(Step(*env.step(action)) for action in actions)]


def of_environment(steps: Iterable[Step], index: int) -> list[Step]:
    """One environment's part of a vector walk, without the masks that say whose info is whose."""
    return [
        Step(*(part[index] for part in step[:4]), {k: v[index] for k, v in step.info.items() if not k.startswith("_")})
        for step in steps
    ]


def episode(env: gym.Env[Any, Any], actions: Iterable[Any], seed: int | None = None) -> list[Step]:
    """Reset, then step until the first end."""
    observation, info = env.reset(seed=seed)
    steps = [Step(observation, 0.0, False, False, info)]
    for action in actions:
        steps.append(Step(*env.step(action)))
        if steps[-1].truncated or steps[-1].terminated:
            break
    return steps


def assert_same_walk(first: Sequence[Step], second: Sequence[Step]) -> None:
    """Equal to the last bit: observations, rewards, flags and every entry of info."""
    assert len(first) == len(second)
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        where = f"at answer {index}"
        for name in ("observation", "reward", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), f"{name} {where}", strict=True)
        assert one.info.keys() == other.info.keys(), where
        for name in one.info:
            np.testing.assert_array_equal(one.info[name], other.info[name], f"{name} {where}", strict=True)
