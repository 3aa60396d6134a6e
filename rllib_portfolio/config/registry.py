"""The algorithms as their run configurations: what a command knows of them before it loads Ray.

Nothing else below `algorithms/` names one. `algorithms/registry.py` has the code that trains under the same names.
"""

from __future__ import annotations

from rllib_portfolio.config.dqn import DQNRunConfig
from rllib_portfolio.config.ppo import PPORunConfig
from rllib_portfolio.config.run import RunConfig

RUN_CONFIGS: dict[str, type[RunConfig]] = {"ppo": PPORunConfig, "dqn": DQNRunConfig}
DEFAULT_ALGORITHM = "ppo"


def algorithms_with(*settings: str) -> list[str]:
    """Return the algorithms whose configuration has all these settings, each a section and a name: `training.gamma`."""
    return [algo for algo, model in RUN_CONFIGS.items() if all(_has(model, setting) for setting in settings)]


def _has(model: type[RunConfig], setting: str) -> bool:
    section, _, name = setting.rpartition(".")
    owner = model.model_fields[section].annotation if section else model
    return name in getattr(owner, "model_fields", {})
