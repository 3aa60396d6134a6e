"""The run configurations of all algorithms by name, which commands can read before they load Ray.

No other module that `algorithms/` imports lists the algorithms. `algorithms/registry.py` maps the same names to the
code that trains.
"""

from __future__ import annotations

from rllib_portfolio.config.apg import APGRunConfig
from rllib_portfolio.config.dqn import DQNRunConfig
from rllib_portfolio.config.ppo import PPORunConfig
from rllib_portfolio.config.run import RunConfig

RUN_CONFIGS: dict[str, type[RunConfig]] = {"ppo": PPORunConfig, "dqn": DQNRunConfig, "apg": APGRunConfig}
DEFAULT_ALGORITHM = "ppo"


def algorithms_with(*settings: str) -> list[str]:
    """Return the algorithms whose configuration has all these settings, each written as `section.name`."""
    return [algo for algo, model in RUN_CONFIGS.items() if all(_has(model, setting) for setting in settings)]


def _has(model: type[RunConfig], setting: str) -> bool:
    section, _, name = setting.rpartition(".")
    owner = model.model_fields[section].annotation if section else model
    return name in getattr(owner, "model_fields", {})
