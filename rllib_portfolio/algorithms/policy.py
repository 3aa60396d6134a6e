"""A trained policy outside of RLlib: exported without pickle, loaded without starting Ray.

A policy folder holds `policy.json` (what it was trained on and how it is wired) and `weights.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.filter import RunningStat
from ray.rllib.utils.numpy import SMALL_NUMBER
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes

from rllib_portfolio.atomic import sealed, unsealed
from rllib_portfolio.config import EnvironmentConfig, MarketConfig, NetworkConfig, QNetworkConfig, RunConfig
from rllib_portfolio.config.consent import named_functions, note_file, require_trusted, trust
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.env.action_map import ActionTable, build_action_table, softmax_weights
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.modules.actor_critic import PortfolioActorCritic
from rllib_portfolio.modules.architectures import ACTOR_CRITICS, model_config
from rllib_portfolio.modules.array_forward import ArrayFunction, inference
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ, averaged_weights
from rllib_portfolio.policies.checkpoint import MANIFEST, best_checkpoint, require_whole
from rllib_portfolio.policies.strategy import MarketView

FloatArray = NDArray[np.floating[Any]]
FORMAT_VERSION = 1
FILTER_CLIP = 10.0
"""RLlib's MeanStdFilter clips what it has normalised to +-10."""


@dataclass(frozen=True)
class PolicySpec:
    """All that is needed to rebuild a policy's network and to know which observations it understands."""

    algo: str
    assets: tuple[str, ...]
    observation_names: tuple[str, ...]
    network: dict[str, Any]
    market: dict[str, Any]
    environment: dict[str, Any]
    fitted: dict[str, Any]
    action_table: dict[str, Any] | None = None
    """Of a policy with discrete actions: names, weights [K, N+1], and the index of the inverse-volatility action."""
    observation_mean: list[float] | None = None
    observation_std: list[float] | None = None
    num_asset_features: int | None = None
    """Features of each asset; a network that scores each asset needs to know."""
    format_version: int = FORMAT_VERSION

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Sections of the specification in which functions can be named."""
        return [self.market, self.environment, self.fitted]

    @property
    def environment_config(self) -> EnvironmentConfig:
        return validated(EnvironmentConfig, self.environment, "policy.json")

    @property
    def market_config(self) -> MarketConfig:
        return validated(MarketConfig, self.market, "policy.json")


@dataclass
class PortfolioPolicy:
    """Weights from observations, deterministically. Also a `Strategy` that a back-test can walk.

    Attributes:
        spec: What the policy was trained on.
        module: Its network, inference only. Decisions are taken with a copy of the weights that it came with.
        name: Row label in tables.
    """

    spec: PolicySpec
    module: PortfolioActorCritic | DuelingNoisyQ
    name: str = "policy"
    table: ActionTable | None = field(init=False, default=None)
    _decisions: ArrayFunction = field(init=False)
    _mean: FloatArray | None = field(init=False, default=None)
    _std: FloatArray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._decisions = inference(self.module)
        if self.spec.action_table is not None:
            self.table = _action_table(self.spec.action_table)
        if self.spec.observation_mean is not None:
            self._mean = np.asarray(self.spec.observation_mean, dtype=np.float32)
            self._std = np.asarray(self.spec.observation_std, dtype=np.float32)

    def __call__(self, observation: FloatArray, volatility: FloatArray | None = None) -> FloatArray:
        """Target weights [N+1] or [B, N+1], cash last, of observations [D] or [B, D] as the environment gives them.

        Args:
            observation: Features, then weights; these are also what the hold action of a discrete policy gives.
            volatility: Trailing daily volatility [N] or [B, N], for the inverse-volatility action of a discrete policy.

        Raises:
            ValueError: If the observation has another length than in training, or the volatility is needed.
        """
        observation = np.asarray(observation, dtype=np.float32)
        observations = np.atleast_2d(observation)
        weights = self._weights(self._decided(observations), observations, volatility)
        return weights if observation.ndim == 2 else weights[0]

    def decide(self, view: MarketView) -> FloatArray | None:
        """Target weights for a back-test; None holds what there is."""
        observations = view.observation[None]
        decided = self._decided(observations)
        if self.table is not None and decided[0] == self.table.hold:
            return None
        return self._weights(decided, observations, view.volatility)[0]

    def _weights(self, decided: NDArray[Any], observations: FloatArray, volatility: FloatArray | None) -> FloatArray:
        """Target weights [B, N+1] of what the network decided for observations [B, D]."""
        if self.table is None:
            return softmax_weights(np.minimum(np.maximum(decided, -1.0), 1.0), self.spec.environment["logit_scale"])
        num_weights = len(self.spec.assets) + 1
        return self.table.target(decided, observations[:, -num_weights:].astype(np.float64), volatility)

    def _decided(self, observations: FloatArray) -> NDArray[Any]:
        """What the network decides for observations [B, D]: mean actions [B, N+1], or action indices [B]."""
        if observations.shape[-1] != len(self.spec.observation_names):
            raise ValueError(
                f"observation must have {len(self.spec.observation_names)} numbers in its last axis, got shape "
                f"{observations.shape}. Build it with the environment that the policy was trained in."
            )
        if self._mean is not None:
            observations = np.clip((observations - self._mean) / self._std, -FILTER_CLIP, FILTER_CLIP)
        return self._decisions(observations)

    def require_compatible(self, market: MarketData) -> None:
        """Raise unless the market has the assets, observations and fitted numbers that the policy was trained on.

        Newer rows of the same universe are welcome, prepared with `fitted=policy.spec.fitted`.

        Raises:
            ConfigError: Names the first difference.
        """
        _require_same("assets", self.spec.assets, market.assets)
        _require_same("observations", self.spec.observation_names, ObservationLayout(market).names)
        others = [name for name in _FITTED if self.spec.fitted.get(name) != market.fitted.get(name)]
        if others:
            raise ConfigError(
                f"market must be prepared with the fit that the policy was trained on, got another {', '.join(others)} "
                f"({market.source}). Load it with load_market(..., fitted=policy.spec.fitted)."
            )

    def save(self, folder: Path) -> None:
        """Write `policy.json` and `weights.safetensors` into a new folder.

        Raises:
            ConfigError: If a weight is not finite; nothing is written then.
        """
        _require_finite(self.module.state_dict())
        folder.mkdir(parents=True)
        # `save_file` ignores the umask, so that no other user could read its file.
        weights = tensor_bytes({name: tensor.contiguous() for name, tensor in self.module.state_dict().items()})
        (folder / _WEIGHTS).write_bytes(weights)
        values = {**asdict(self.spec), _DIGEST: hashlib.sha256(weights).hexdigest()}
        (folder / "policy.json").write_text(json.dumps(sealed(values), indent=1))


_WEIGHTS = "weights.safetensors"
_DIGEST = "weights_sha256"
"""Entry of `policy.json`; former versions did not write it."""
_FITTED = ("features", "observation_filter", "scaler", "gmm", "hmm")
"""Entries of `MarketData.fitted` that the numbers of an observation depend on."""


def build_policy(spec: PolicySpec, weights: Mapping[str, Any]) -> PortfolioPolicy:
    """A policy from its specification and the weights of its network; weights of the critic are left out.

    Raises:
        ConfigError: If a weight is not finite, of the critic, too.
    """
    _require_finite(weights)
    # Initial weights would take longer than the rest, and random numbers that a run in training samples actions with.
    with torch.device("meta"), _without_deprecations():
        module = _inference_module(spec)
    wanted = module.state_dict().items()
    copies = {name: torch.as_tensor(weights[name]).to("cpu", like.dtype, copy=True) for name, like in wanted}
    module.load_state_dict(copies, assign=True)
    assert not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
    module.eval()
    return PortfolioPolicy(spec, module)


def _require_finite(weights: Mapping[str, Any]) -> None:
    """Raise unless all weights are finite: a network with others decides nothing."""
    for name, values in weights.items():
        tensor = torch.as_tensor(values)
        if tensor.is_floating_point() and not tensor.isfinite().all():
            number = int((~tensor.isfinite()).sum())
            raise ConfigError(f"the weights of a policy must be finite, got {number} of {name} that are not")


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Silence RLlib's deprecation warnings: the constructor of its modules uses a class that RLlib has deprecated."""
    logger = logging.getLogger("ray._common.deprecation")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _inference_module(spec: PolicySpec) -> PortfolioActorCritic | DuelingNoisyQ:
    """A network for inference, as it is before it has its weights."""
    spaces: dict[str, Any] = {
        "observation_space": gym.spaces.Box(-np.inf, np.inf, (len(spec.observation_names),), np.float32),
        "inference_only": True,
    }
    if spec.action_table is not None:
        network = validated(QNetworkConfig, spec.network, "policy.json").model_dump()
        num_actions = len(spec.action_table["names"])
        return DuelingNoisyQ(action_space=gym.spaces.Discrete(num_actions), model_config=network, **spaces)
    network = {"architecture": "flat"} | spec.network  # older policies do not name their architecture
    settings = validated(NetworkConfig, network, "policy.json").for_assets(len(spec.assets))
    return ACTOR_CRITICS[settings.architecture](
        action_space=gym.spaces.Box(-1.0, 1.0, (len(spec.assets) + 1,), np.float32),
        model_config=model_config(settings, spec.environment_config.logit_scale, spec.num_asset_features),
        **spaces,
    )


def _action_table(values: Mapping[str, Any]) -> ActionTable:
    return ActionTable(tuple(values["names"]), np.array(values["weights"]), values["inverse_volatility"])


def current_policy(algorithm: Any, config: RunConfig, market: MarketData) -> PortfolioPolicy:
    """Return the policy that an algorithm's learners have reached; DQN's decides with the average of its weights.

    Args:
        algorithm: What `ppo.build` or `dqn.build` made.
        config: The run's configuration.
        market: Its market.
    """
    weights = algorithm.learner_group.get_weights([DEFAULT_MODULE_ID])[DEFAULT_MODULE_ID]
    if config.algo == "dqn":
        weights = averaged_weights(weights)
    mean, std = _filter_moments(algorithm) if config.market.observation_filter == "running" else (None, None)
    table = None
    if config.environment.action_mode == "discrete":
        built = build_action_table(config.environment, market.assets)
        table = asdict(built) | {"weights": built.weights.tolist()}
    spec = PolicySpec(
        algo=config.algo,
        assets=market.assets,
        observation_names=ObservationLayout(market).names,
        network=config.for_assets(market.num_assets).network.model_dump(mode="json"),
        market=config.market.model_dump(mode="json"),
        environment=config.environment.model_dump(mode="json"),
        fitted=market.fitted,
        action_table=table,
        observation_mean=mean,
        observation_std=std,
        num_asset_features=len(market.asset_feature_names),
    )
    return build_policy(spec, weights)


def _filter_moments(algorithm: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of RLlib's running observation filter, merged over the env runners."""
    pipeline = algorithm.env_runner._env_to_module if algorithm.env_runner else algorithm.env_to_module_connector
    (mean_std_filter,) = (piece for piece in pipeline.connectors if isinstance(piece, MeanStdFilter))
    (state,) = mean_std_filter.get_state().values()
    (running,) = (RunningStat.from_state(moments) for moments in state["running_stats"])
    return running.mean.tolist(), (running.std + SMALL_NUMBER).tolist()


def load_policy(path: str | Path, *, trust_custom: str | Collection[str] = ()) -> PortfolioPolicy:
    """The policy of a run (its best on validation), of one checkpoint, or of a policy folder.

    Nothing of it is executed. What its market and its environment are later built from may name functions of its
    author, so that a policy with a custom feature or reward is given to those alone who trust these.

    Args:
        path: Run folder, checkpoint folder or policy folder.
        trust_custom: Functions as `module:function`, or modules for all of their functions, that this process may
            import from now on where saved settings name them.

    Raises:
        ConfigError: If there is no policy, its files are damaged, or name a function that is not trusted.
    """
    trust(trust_custom)
    policy = read_policy(path)
    require_trusted(named_functions(policy.spec.settings))
    return policy


def read_policy(path: str | Path) -> PortfolioPolicy:
    """Return what `load_policy` does, whatever functions it names: for commands, which import trusted ones alone."""
    folder = _policy_folder(Path(path))
    try:
        values = unsealed(json.loads((folder / "policy.json").read_text()))
        weights = (folder / _WEIGHTS).read_bytes()
        if values.pop(_DIGEST, None) not in (None, hashlib.sha256(weights).hexdigest()):
            raise ValueError(f"other {_WEIGHTS} than were written")
        values |= {name: tuple(values[name]) for name in ("assets", "observation_names")}
        spec = PolicySpec(**values)
        if spec.format_version != FORMAT_VERSION:
            raise ValueError(f"format version {spec.format_version} instead of {FORMAT_VERSION}")
        note_file(spec.settings, folder / "policy.json")
        return build_policy(spec, load_tensors(weights))
    except (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"policy must be a folder with policy.json and {_WEIGHTS}, got damaged files ({folder}: {reason}). "
            "Use another checkpoint."
        ) from None


def _policy_folder(path: Path) -> Path:
    if (path / "policy.json").is_file():
        return path
    if (path / "policy").is_dir() or (path / MANIFEST).exists():
        require_whole(path)
        return path / "policy"
    best = best_checkpoint(path)
    if best is None:
        raise ConfigError(f"policy must be a run, checkpoint or policy folder, got {path}. Name a folder of a run.")
    return best / "policy"


def _require_same(what: str, trained: tuple[str, ...], given: tuple[str, ...]) -> None:
    if trained == given:
        return
    for index in range(max(len(trained), len(given))):
        ours, theirs = (names[index] if index < len(names) else "nothing" for names in (trained, given))
        if ours != theirs:
            break
    raise ConfigError(
        f"{what} must be those of training, got {len(given)} instead of {len(trained)}, the first difference at "
        f"{index}: {theirs} instead of {ours}. Use the universe and features of training, or train anew."
    )
