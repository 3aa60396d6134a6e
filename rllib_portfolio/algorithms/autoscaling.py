"""How far a Ray cluster can grow: what its autoscaler was told, as far as Ray lets a program in the cluster see it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.state import state
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client

RESOURCES = ("CPU", "GPU")
UNKNOWN = {name: math.inf for name in RESOURCES}
"""An autoscaler that keeps its limits to itself, such as KubeRay's."""
_HEAD = {"node:__internal_head__": 0.001}
_STATUS = "__autoscaling_status"
_NO_TYPE = "node_"
"""Beginning of what Ray's first autoscaler calls a node that it only watches: `ray start --head` runs it, too."""
_TIMEOUT_S = 30.0


def largest_cluster() -> Mapping[str, float] | None:
    """CPUs and GPUs of the cluster when its autoscaler has brought all it may; None if nothing brings machines.

    A limit that cannot be seen is infinite.
    """
    told = state.get_max_resources_from_cluster_config()  # which some providers of Ray fill
    if told is not None:
        return {name: float(told.get(name, 0)) for name in RESOURCES}
    if not _is_autoscaling():
        return None
    config = _config_of_monitor()
    return UNKNOWN if config is None else largest_of_config(config)


def largest_of_config(config: Mapping[str, Any]) -> Mapping[str, float] | None:
    """The same, from the configuration of Ray's cluster launcher as its autoscaler reads it.

    Args:
        config: `max_workers` machines beside the head, of `available_node_types` with limits of their own.
    """
    types: Mapping[str, Mapping[str, Any]] = config["available_node_types"]
    head = config["head_node_type"]
    room = int(config.get("max_workers", 0))
    workers = {name: kind for name, kind in types.items() if name != head and kind.get("max_workers", room)}
    if sum(int(kind.get("min_workers", 0)) for kind in workers.values()) >= room:
        return None  # all machines are there from the start
    if any("CPU" not in kind.get("resources", {}) for kind in workers.values()):
        return UNKNOWN  # they are asked when they are there
    return {
        name: float(types[head].get("resources", {}).get(name, 0)) + _most(name, workers.values(), room)
        for name in RESOURCES
    }


def _most(name: str, kinds: Any, room: int) -> float:
    """Of one resource, with the machines that have most of it."""
    most = 0.0
    for kind in sorted(kinds, key=lambda kind: float(kind["resources"].get(name, 0)), reverse=True):
        count = min(room, int(kind.get("max_workers", room)))
        most += count * float(kind["resources"].get(name, 0))
        room -= count
    return most


def _is_autoscaling() -> bool:
    """Whether an autoscaler that brings machines runs, and not one that watches those which were started by hand."""
    if is_autoscaler_v2():
        reply = GetClusterStatusReply.FromString(internal_kv_get_gcs_client().get_cluster_status(timeout_s=_TIMEOUT_S))
        return any(node.ray_node_type_name for node in reply.cluster_resource_state.node_states)
    report = json.loads(_internal_kv_get(_STATUS) or b"{}").get("autoscaler_report") or {}
    return any(not kind.startswith(_NO_TYPE) for kind in (report.get("node_type_mapping") or {}).values())


def _config_of_monitor() -> Mapping[str, Any] | None:
    """What the autoscaler on the head was started with; None if it runs elsewhere, as KubeRay's does."""
    task = ray.remote(_read_config).options(num_cpus=0, resources=_HEAD, max_retries=0).remote()
    try:
        found: Mapping[str, Any] | None = ray.get(task, timeout=_TIMEOUT_S)
    except RayError:  # its file is gone, or the head does not answer
        return None
    return found


def _read_config() -> Mapping[str, Any] | None:
    """On the head: the file that is named in the command of this session's autoscaler."""
    session = ray._private.worker._global_node.session_name
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_text().split("\0")
        except OSError:  # it ended while we looked
            continue
        named = [word.partition("=")[2] for word in words if word.startswith("--autoscaling-config=")]
        if named and any(session in word for word in words):
            config: Mapping[str, Any] = yaml.safe_load(Path(named[0]).expanduser().read_text())
            return config
    return None
