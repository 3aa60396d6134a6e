"""Trained policies in numpy, which are saved without pickle, and which load and decide without torch and Ray.

A policy folder holds `policy.json` (the settings of market, environment and network) and `weights.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as array_bytes

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.atomic import sealed, unsealed
from rllib_portfolio.config import EnvironmentConfig, MarketConfig, NetworkConfig, QNetworkConfig
from rllib_portfolio.config.consent import named_functions, note_file, require_trusted, trust
from rllib_portfolio.config.networks import PER_ASSET
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.env.action_map import ActionInputs, ActionMap
from rllib_portfolio.env.action_table import ActionTable, action_map_of
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError, file_error
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.universe import TRADABLE
from rllib_portfolio.policies.checkpoint import MANIFEST, best_checkpoint, require_whole
from rllib_portfolio.policies.numpy_networks import (
    ArrayFunction,
    NamedWeights,
    flat_actor,
    greedy_actions,
)
from rllib_portfolio.policies.numpy_per_asset import AssetReader, per_asset_actor, per_asset_greedy
from rllib_portfolio.policies.strategy import MarketView

FORMAT_VERSION = 1
FILTER_CLIP = 10.0
"""RLlib's MeanStdFilter clips normalised values to +-10."""


@dataclass(frozen=True)
class PolicySpec:
    """Everything that is needed to rebuild a policy's network and to know which observations it accepts."""

    algo: str
    assets: tuple[str, ...]
    observation_names: tuple[str, ...]
    network: dict[str, Any]
    market: dict[str, Any]
    environment: dict[str, Any]
    fitted: dict[str, Any]
    action_table: dict[str, Any] | None = None
    """For discrete actions: the result of `ActionTable.to_json`."""
    observation_mean: list[float] | None = None
    observation_std: list[float] | None = None
    num_asset_features: int | None = None
    """Number of features of each asset, which networks that score each asset and tilts by a feature need."""
    num_members: int = 1
    """Number of networks, whose target weights are averaged; the arrays of network k are named `members.k....`."""
    format_version: int = FORMAT_VERSION

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Sections of the specification that may name functions."""
        return [self.market, self.environment, self.fitted]

    @property
    def network_config(self) -> NetworkConfig | QNetworkConfig:
        """Settings of the network: a Q-network for discrete actions, else an actor-critic."""
        if self.action_table is not None:
            return validated(QNetworkConfig, self.network, "policy.json").for_assets(len(self.assets))
        network = {"architecture": "flat"} | self.network  # older policies do not name their architecture
        return validated(NetworkConfig, network, "policy.json").for_assets(len(self.assets))

    @property
    def environment_config(self) -> EnvironmentConfig:
        """Settings of the environment that the policy was trained in."""
        return validated(EnvironmentConfig, self.environment, "policy.json")

    @property
    def action_map(self) -> ActionMap:
        """The map from the network's decisions to target weights in the environment that the policy was trained in."""
        return action_map_of(self.action_table, self.environment_config, self.assets)

    @property
    def asset_features(self) -> tuple[str, ...]:
        """Names of the features of each asset; none in a flat policy of earlier versions."""
        prefix = f"{self.assets[0]}."
        return tuple(name.removeprefix(prefix) for name in self.observation_names[: self.num_asset_features or 0])

    @property
    def market_features(self) -> tuple[str, ...]:
        """Names of the features of the market."""
        num_assets = len(self.assets)
        return self.observation_names[num_assets * (self.num_asset_features or 0) : -num_assets - 1]

    @property
    def reader(self) -> AssetReader:
        """The reader of observations of any number of assets."""
        features = self.asset_features
        return AssetReader(len(features), len(self.market_features), features[-1:] == (TRADABLE,))

    @property
    def takes_any_assets(self) -> bool:
        """Whether the policy decides for assets that it was not trained on, and for any number of them."""
        return self.network_config.architecture == PER_ASSET and self.observation_mean is None

    @property
    def market_config(self) -> MarketConfig:
        """Settings of the market that the policy was trained on."""
        return validated(MarketConfig, self.market, "policy.json")


@dataclass
class PortfolioPolicy:
    """A deterministic policy from observations to target weights, which is also a `Strategy` for back-tests.

    Attributes:
        spec: Specification of the network and of the training.
        weights: Weights of the network, as arrays or tensors by their names in the trained torch module. The policy
            keeps read-only copies, without those of the critic.
        name: Row label in tables.
        action_map: Map from the network's decisions to target weights for the assets of training.

    Raises:
        ConfigError: If a weight is not finite, even one of the critic.
        KeyError: If a weight is missing.
        ValueError: If a weight has another shape than the network's settings require.
    """

    spec: PolicySpec
    weights: Mapping[str, Any]
    name: str = "policy"
    action_map: ActionMap = field(init=False)
    _reader: AssetReader = field(init=False)
    _maps: dict[int, ActionMap] = field(init=False)
    _takes_any_assets: bool = field(init=False)
    _decisions: ArrayFunction = field(init=False)
    _mean: FloatArray | None = field(init=False, default=None)
    _std: FloatArray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        _require_finite(self.weights)
        named = NamedWeights(self.weights)
        self._decisions, self.weights = _decisions(self.spec, named), named.taken
        self.action_map = self.spec.action_map
        self._maps = {len(self.spec.assets): self.action_map}
        self._reader, self._takes_any_assets = self.spec.reader, self.spec.takes_any_assets
        if self.spec.observation_mean is not None:
            self._mean = np.asarray(self.spec.observation_mean, dtype=np.float32)
            self._std = np.asarray(self.spec.observation_std, dtype=np.float32)

    def __call__(self, observation: FloatArray, volatility: FloatArray | None = None) -> FloatArray:
        """Return target weights [N+1] or [B, N+1], cash last, for observations [D] or [B, D] of the environment.

        Args:
            observation: Features, then weights; the hold action of a discrete policy returns these weights, and partial
                trading starts at them. A policy that scores each asset takes observations of any number N of assets.
            volatility: Trailing daily volatility [N] or [B, N], for the inverse-volatility action of a discrete policy.

        Raises:
            ValueError: If the observation does not have the features of training, or a required volatility is missing.
        """
        observation = np.asarray(observation, dtype=np.float32)
        observations = np.atleast_2d(observation)
        weights = self._weights(self._decided(observations), observations, self._held(observations), volatility)
        return weights if observation.ndim == 2 else weights[0]

    def decide(self, view: MarketView) -> FloatArray | None:
        """Return target weights for a back-test, [N+1]; None holds the current portfolio."""
        observations = view.observation[None]
        decided = self._decided(observations)
        if self._map(observations).is_hold(decided)[0]:
            return None
        weights: FloatArray = self._weights(decided, observations, view.weights[None], view.volatility)[0]
        return weights

    def _weights(
        self, decided: NDArray[Any], observations: FloatArray, held: FloatArray, volatility: FloatArray | None
    ) -> FloatArray:
        """Return target weights [B, N+1] for the network's decisions on observations [B, D].

        Args:
            decided: The decisions, [B, ...].
            observations: The observations.
            held: Weights of the portfolio as known at the decision, [B, N+1], which observations round to float32.
            volatility: Trailing daily volatility, [N] or [B, N].
        """
        num_assets, num_features = self._num_assets(observations), self._reader.num_features
        features = observations[:, : num_assets * num_features].reshape(len(observations), num_assets, num_features)
        tradable = features[..., -1] > 0.5 if self._reader.sees_tradable else None
        action_map, inputs = self._map(observations), ActionInputs(volatility, tradable, features, held)
        if self.spec.num_members == 1:
            return action_map.target(decided, held, inputs)
        targets = [action_map.target(actions, held, inputs) for actions in decided.swapaxes(0, 1)]
        return np.asarray(np.mean(targets, axis=0))

    def _held(self, observations: FloatArray) -> FloatArray:
        """Return the portfolio's weights in observations [B, D], float64 [B, N+1]."""
        return observations[:, -self._num_assets(observations) - 1 :].astype(np.float64)

    def _num_assets(self, observations: FloatArray) -> int:
        """Return the number of assets of observations [B, D]."""
        if not self._takes_any_assets:
            return len(self.spec.assets)
        return self._reader.num_assets(observations.shape[-1])

    def _map(self, observations: FloatArray) -> ActionMap:
        """Return the action map for the number of assets of observations [B, D]."""
        num_assets = self._num_assets(observations)
        if num_assets not in self._maps:
            assets = tuple(f"asset {index}" for index in range(num_assets))
            chosen = self.action_map
            self._maps[num_assets] = chosen.over(assets) if isinstance(chosen, ActionTable) else chosen
        return self._maps[num_assets]

    def _decided(self, observations: FloatArray) -> NDArray[Any]:
        """Return the network's decisions for observations [B, D]: actions [B, ...] of the environment.

        The decisions of S networks are [B, S, ...].
        """
        if not self._takes_any_assets and observations.shape[-1] != len(self.spec.observation_names):
            raise ValueError(
                f"observation must have {len(self.spec.observation_names)} numbers in its last axis, got shape "
                f"{observations.shape}. Build it with the environment that the policy was trained in."
            )
        if self._mean is not None and self._std is not None:
            observations = np.clip((observations - self._mean) / self._std, -FILTER_CLIP, FILTER_CLIP)
        return self._decisions(observations)

    @property
    def members(self) -> tuple[PortfolioPolicy, ...]:
        """The policies whose target weights this policy averages; the policy itself if it has one network."""
        if self.spec.num_members == 1:
            return (self,)
        spec = replace(self.spec, num_members=1)
        prefixes = [_member(index) for index in range(self.spec.num_members)]
        parts = [
            {name.removeprefix(own): self.weights[name] for name in self.weights if name.startswith(own)}
            for own in prefixes
        ]
        return tuple(PortfolioPolicy(spec, part, f"{self.name}, member {k}") for k, part in enumerate(parts))

    def require_compatible(self, market: MarketData) -> None:
        """Raise unless the market has the features and fitted values that the policy was trained on.

        The market may have newer rows, prepared with `fitted=policy.spec.fitted`. A policy that scores each asset takes
        other assets as well, in any number; other policies need the assets of training.

        Raises:
            ConfigError: If there is a difference; names the first one.
        """
        spec = self.spec
        if spec.takes_any_assets:
            _require_same("asset features", spec.asset_features, market.asset_feature_names)
            _require_same("market features", spec.market_features, market.market_feature_names)
            if isinstance(self.action_map, ActionTable) and (len(spec.assets) == 1) != (market.num_assets == 1):
                _require_same("assets", spec.assets, market.assets)
        else:
            _require_same("assets", spec.assets, market.assets)
            _require_same("observations", spec.observation_names, ObservationLayout(market).names)
        others = [name for name in _FITTED if self.spec.fitted.get(name) != market.fitted.get(name)]
        if others:
            raise ConfigError(
                f"market must be prepared with the fit that the policy was trained on, got another {', '.join(others)} "
                f"({market.source}). Load it with load_market(..., fitted=policy.spec.fitted)."
            )

    def save(self, folder: Path) -> None:
        """Write `policy.json` and `weights.safetensors` into a new folder."""
        folder.mkdir(parents=True)
        # `save_file` ignores the umask, so that no other user could read its file.
        weights = array_bytes(dict(self.weights))
        (folder / _WEIGHTS).write_bytes(weights)
        values = {**asdict(self.spec), _DIGEST: hashlib.sha256(weights).hexdigest()}
        (folder / "policy.json").write_text(json.dumps(sealed(values), indent=1))


_WEIGHTS = "weights.safetensors"
_DIGEST = "weights_sha256"
"""Entry of `policy.json`; earlier versions did not write it."""
_FITTED = ("features", "observation_filter", "scaler", "gmm", "hmm")
"""Entries of `MarketData.fitted` on which the values of an observation depend."""


def _require_finite(weights: Mapping[str, Any]) -> None:
    """Raise unless all weights are finite; a network with other weights cannot decide."""
    for name, values in weights.items():
        is_finite = np.isfinite(np.asarray(values))
        if not is_finite.all():
            number = int((~is_finite).sum())
            raise ConfigError(f"the weights of a policy must be finite, got {number} of {name} that are not")


def _member(index: int) -> str:
    """Return the prefix of the arrays of one of several networks."""
    return f"members.{index}."


def _decisions(spec: PolicySpec, weights: NamedWeights) -> ArrayFunction:
    """Return the forward pass of a policy's networks, which takes the arrays that it needs from `weights`."""
    if spec.num_members == 1:
        return _network_decisions(spec, weights)
    members = [replace(weights, prefix=_member(index)) for index in range(spec.num_members)]
    networks = [_network_decisions(spec, member) for member in members]
    return lambda observations: np.stack([network(observations) for network in networks], axis=1)


def _network_decisions(spec: PolicySpec, weights: NamedWeights) -> ArrayFunction:
    """Return the forward pass of one network."""
    network, num_inputs = spec.network_config, len(spec.observation_names)
    sizes = network.hidden_sizes
    environment, num_assets = spec.environment_config, len(spec.assets)
    scale, is_partial = environment.logit_scale, environment.partial_trading
    if network.architecture == PER_ASSET and not isinstance(spec.num_asset_features, int):
        raise ValueError(f"num_asset_features must be a whole number, got {spec.num_asset_features}")
    if isinstance(network, QNetworkConfig):
        table = spec.action_map
        assert isinstance(table, ActionTable)
        streams = {"dueling": network.dueling, "noisy": network.noisy}
        if network.architecture != PER_ASSET:
            return greedy_actions(weights, num_inputs, table.num_actions, sizes, **streams)
        num_common = table.num_actions - (0 if table.first_tilt is None else num_assets)
        return per_asset_greedy(weights, spec.reader, num_common, sizes, first_tilt=table.first_tilt, **streams)
    if network.architecture == PER_ASSET:
        return partial(_clipped, per_asset_actor(weights, spec.reader, sizes, scale, is_partial))
    return partial(_clipped, flat_actor(weights, num_inputs, num_assets + 1 + is_partial, sizes, scale))


def _clipped(actor: ArrayFunction, observations: FloatArray) -> FloatArray:
    """Return an actor's mean actions, clipped to the bounds of the action space."""
    return np.minimum(np.maximum(actor(observations), -1.0), 1.0)


def load_policy(path: str | Path, *, trust_custom: str | Collection[str] = ()) -> PortfolioPolicy:
    """Load the policy of a run (the best one on validation), of one checkpoint, or of a policy folder.

    Loading executes no code of the policy. However, its settings of market and environment may name functions of its
    author, which are imported when these are built. A policy with a custom feature or reward is therefore loaded only
    if its functions are trusted.

    Args:
        path: Run folder, checkpoint folder or policy folder.
        trust_custom: Functions as `module:function`, or modules to trust all of their functions. This process may
            import them from now on if saved settings name them.

    Raises:
        ConfigError: If there is no policy, its files are damaged, or they name a function that is not trusted.
    """
    trust(trust_custom)
    policy = read_policy(path)
    require_trusted(named_functions(policy.spec.settings))
    return policy


def read_policy(path: str | Path) -> PortfolioPolicy:
    """Load a policy as `load_policy` does, but without a check of its functions: commands import only trusted ones."""
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
        return PortfolioPolicy(spec, load_arrays(weights))
    except (OSError, LookupError, AttributeError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        got = " ".join(str(error).split())
        text = f"policy must be a folder with policy.json and {_WEIGHTS}, got damaged files ({folder}: {got})"
        raise file_error(error, text, "Use another checkpoint.") from None


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
