"""Loading of run configurations from a file and the command line.

Precedence: defaults < file < `--set a.b=v` and flags. A file may also hold a `search` section with the search space of
`tune.py`, which is not part of a run's configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rllib_portfolio.config.registry import DEFAULT_ALGORITHM, RUN_CONFIGS
from rllib_portfolio.config.run import RunConfig
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError, file_error, reason
from rllib_portfolio.shown_text import quoted

Config = TypeVar("Config", bound=RunConfig)


MOST_VALUES = 1_000_000
"""Most values that a file may hold with its aliases expanded: a few hundred bytes of aliases can stand for billions."""


class _YamlLoader(yaml.SafeLoader):
    """A loader that reads `1e-4` as a number, as YAML 1.2 does; PyYAML follows YAML 1.1, where it is text."""

    def construct_document(self, node: yaml.Node) -> Any:
        """Construct a document unless its aliases expand to too many values, or to a node that contains them."""
        if _num_values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"it holds more than {MOST_VALUES:,} values when its aliases are written out")
        return super().construct_document(node)


def _num_values(node: Any, known: dict[int, float]) -> float:
    """Return the number of values of a node with its aliases expanded; infinite if a node contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = (child for pair in node.value for child in pair) if isinstance(node, yaml.MappingNode) else node.value
        children = inner if isinstance(node, yaml.CollectionNode) else ()
        known[id(node)] = 1.0 + sum(_num_values(child, known) for child in children)
    return known[id(node)]


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


SEARCH = "search"


def load_run_config(path: Path | None, overrides: Mapping[str, Any]) -> RunConfig:
    """Return the run configuration of a YAML file, or the defaults, with overrides on top.

    Args:
        path: The file; None for the defaults.
        overrides: Maps dotted settings to their values.

    Raises:
        ConfigError: If the file cannot be read, or a setting is unknown or out of bounds.
    """
    values = read_yaml(path) if path is not None else {}
    values.pop(SEARCH, None)
    for name, value in overrides.items():
        _set_dotted(values, name, value)
    where = f"{path}" if path is not None else "command line"
    model = RUN_CONFIGS[_known_algorithm(values.get("algo", DEFAULT_ALGORITHM), where)]
    return validated(model, values, where if not overrides or path is None else f"{where} and command line")


def algorithm_in(path: Path) -> str | None:
    """Return the algorithm that a YAML file names; None if it names none."""
    algo = read_yaml(path).get("algo")
    return None if algo is None else _known_algorithm(algo, f"{path}")


def _known_algorithm(algo: object, where: str) -> str:
    if not isinstance(algo, str) or algo not in RUN_CONFIGS:
        raise ConfigError(
            f"algo must be one of {', '.join(RUN_CONFIGS)}, got {quoted(algo)} ({where}). Correct the name."
        )
    return algo


def with_overrides(config: Config, overrides: Mapping[str, Any], where: str) -> Config:
    """Return a configuration with other values for some settings.

    Args:
        config: The configuration.
        overrides: Maps dotted settings to their values.
        where: Source of the overrides, for the error message.

    Raises:
        ConfigError: If a setting is unknown or out of bounds.
    """
    values = config.model_dump(mode="json")
    for name, value in overrides.items():
        _set_dotted(values, name, value)
    return validated(type(config), values, where)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, or raise a `ConfigError`."""
    try:
        values = yaml.load(path.read_text(), _YamlLoader)
    except OSError as error:
        text = f"config must be a readable file, got {path} ({reason(error)})"
        raise file_error(error, text, "Correct the path.") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # Besides YAML's own errors: from bytes that are not text, 2016-02-30, `!!bool x` or a thousand brackets.
        text = " ".join(str(error).split())
        raise ConfigError(f"config must be a YAML file, got {path} ({text}). Correct the file.") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ConfigError(f"config must map settings to values, got {kind} ({path}). Correct the file.")
    return values


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return the dotted setting and the value, which is read as YAML, of a text such as `training.gamma=0.95`.

    A value that begins with a per cent sign, as a format of days does, is text; YAML would require quotes.

    Raises:
        ConfigError: If the text has another form, or its value is not valid YAML.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ConfigError(f"--set must read section.setting=value, got {text!r}. Write --set training.gamma=0.95.")
    if value.lstrip().startswith("%"):
        return name.strip(), value.strip()
    try:
        return name.strip(), yaml.load(value, _YamlLoader)
    except (yaml.YAMLError, RecursionError):
        raise ConfigError(f"--set must give a YAML value, got {value!r} ({name}). Quote it.") from None
    except ValueError as error:  # from an impossible date such as 2016-02-30
        raise ConfigError(f"--set must give a YAML value, got {value!r} ({name}: {error}). Correct it.") from None


def _set_dotted(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, setting = name.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{name} must name a setting of a section, but {section} is a value. Correct the name.")
        values = inner
    values[setting] = deepcopy(value)  # a later override may change a setting inside the value
