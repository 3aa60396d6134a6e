"""A model of synchronous PPO over n env runners, and a simulation that it is checked against.

An iteration samples one fragment of F steps on each of n env runners at the same time, handles the fragments in the
driver one after the other, learns from all nF steps, and sends the new weights to each runner:

    T(n) = t_s + n t_d + n F t_l / k + n t_w        X(n) = n F / T(n)        X(inf) = F / (t_d + t_w + F t_l / k)

with k learners, each on its share of the batch. X(n) / X(inf) = n / (n + n_half) with n_half = t_s / (t_d + t_w +
F t_l / k): at n_half env runners half of what can be had is there, at nine times as many 90 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Costs:
    """What an iteration is made of.

    Attributes:
        fragment_steps: F, environment steps of a fragment.
        sampling_s: t_s, seconds an env runner samples one.
        driver_s: t_d, seconds the driver is busy with one: receiving, unpacking, reward statistics.
        weights_s: t_w, seconds to send the weights to one runner.
        learning_s: t_l, seconds of learning for each environment step.
        num_learners: k.
    """

    fragment_steps: int
    sampling_s: float
    driver_s: float
    weights_s: float
    learning_s: float
    num_learners: int = 1

    @property
    def serial_s(self) -> float:
        """Seconds that each further env runner adds to an iteration."""
        return self.driver_s + self.weights_s + self.fragment_steps * self.learning_s / self.num_learners

    def steps_per_second(self, num_env_runners: int) -> float:
        """X(n)."""
        iteration_s = self.sampling_s + num_env_runners * self.serial_s
        return num_env_runners * self.fragment_steps / iteration_s

    @property
    def limit(self) -> float:
        """X(inf), steps a second."""
        return self.fragment_steps / self.serial_s

    @property
    def half_point(self) -> float:
        """n_half, env runners at which half of the limit is reached."""
        return self.sampling_s / self.serial_s

    def with_learners(self, num_learners: int) -> Costs:
        """The same with more learners; what they exchange is left out."""
        return replace(self, num_learners=num_learners)

    def with_fragments(self, factor: int) -> Costs:
        """Fragments `factor` times as long: sampling grows with them, what a fragment costs the driver is shared.

        Weights go out once for each fragment; unpacking grows with the steps.
        """
        return replace(
            self,
            fragment_steps=factor * self.fragment_steps,
            sampling_s=factor * self.sampling_s,
            driver_s=factor * self.driver_s,
        )


def simulated_steps_per_second(
    costs: Costs, fragment_times_s: Sequence[float], num_env_runners: int, num_iterations: int = 2000, seed: int = 0
) -> float:
    """Steps a second of iterations in which each runner's time is drawn from those that were measured.

    What the model leaves out is here: an iteration waits for the slowest runner, and the driver unpacks a fragment
    while others still sample.
    """
    rng = np.random.default_rng(seed)
    times = np.asarray(fragment_times_s)
    arrivals = np.sort(rng.choice(times, size=(num_iterations, num_env_runners)), axis=1)
    ready = np.zeros(num_iterations)
    for fragment in range(num_env_runners):  # in the order of arrival
        ready = np.maximum(ready, arrivals[:, fragment]) + costs.driver_s
    steps = num_env_runners * costs.fragment_steps
    learning_s = steps * costs.learning_s / costs.num_learners + num_env_runners * costs.weights_s
    return float(num_iterations * steps / (ready + learning_s).sum())
