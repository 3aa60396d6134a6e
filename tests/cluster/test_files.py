"""Each file of cluster/: schemas and linters of those who read it, versions, and what security asks for."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ["aws.yaml", "on-premise.yaml"]


def pinned(package: str) -> str:
    (version,) = re.findall(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return str(version)


def linter(name: str) -> str:
    beside_python = Path(sys.executable).parent / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


# ---------------------------------------------------------------- ray up


def launcher(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return config


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_files_follow_rays_schema(name: str) -> None:
    from jsonschema import ValidationError

    util = pytest.importorskip("ray.autoscaler._private.util", reason="Ray moved its launcher's schema")
    util.validate_config(util.prepare_config(copy.deepcopy(launcher(name))))
    with pytest.raises(ValidationError, match="idle_timeout_minuets"):
        util.validate_config(util.prepare_config({**launcher(name), "idle_timeout_minuets": 5}))
    copied = [source for source in launcher(name)["file_mounts"].values() if not source.startswith("~")]
    assert all((ROOT / source).is_file() for source in copied)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_ask_for_a_token_and_open_the_dashboard_to_the_head_alone(name: str) -> None:
    config = launcher(name)
    starts = [line for key in ("head", "worker") for line in config[f"{key}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2
    for line in starts:
        assert "export" in line
        assert "RAY_AUTH_MODE=token" in line.split("ray start")[0]
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in (CLUSTER / name).read_text()
    assert any(target.endswith("/.ray/auth_token") for target in config["file_mounts"])


def test_the_containers_user_may_write_wherever_the_examples_do() -> None:
    commands = (CLUSTER.parent / "docs" / "cluster.md").read_text()
    folders = {Path(name) for name in re.findall(r"--(?:output-dir|storage-path) (/shared\S+)", commands)}
    given = re.findall(r"install -d -o 1000 -g 100 (/\S+)", (CLUSTER / "aws.yaml").read_text())
    assert [folder for folder in folders if not any(folder.is_relative_to(owned) for owned in given)] == []


# ---------------------------------------------------------------- Kubernetes


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def pods(values: Any) -> Iterator[dict[str, Any]]:
    """The specification of every pod in a manifest."""
    if isinstance(values, dict):
        if "containers" in values:
            yield values
        for value in values.values():
            yield from pods(value)
    elif isinstance(values, list):
        for value in values:
            yield from pods(value)


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_no_pod_runs_as_root_or_is_killed_for_memory_that_it_did_not_ask_for(name: str) -> None:
    (manifest,) = manifests(name)
    found = list(pods(manifest))
    assert len(found) >= 3
    for pod in found:
        security, (container,) = pod["securityContext"], pod["containers"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] >= 1000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        resources = container["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert resources["requests"].get("nvidia.com/gpu") == resources["limits"].get("nvidia.com/gpu")
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


def test_cluster_and_job_manifest_describe_the_same_cluster_which_asks_for_a_token() -> None:
    (cluster,), (job,) = manifests("raycluster.yaml"), manifests("rayjob.yaml")
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_network_policy_admits_the_cluster_the_operator_and_prometheus() -> None:
    claim, policy = manifests("storage-and-network.yaml")
    own, *others = policy["spec"]["ingress"]
    assert own == {"from": [{"podSelector": policy["spec"]["podSelector"]}]}
    admitted = {
        rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: [
            opened["port"] for opened in rule["ports"]
        ]
        for rule in others
    }
    assert admitted == {"kuberay-system": [8265], "monitoring": [8080]}
    (cluster,) = manifests("raycluster.yaml")
    (volume,) = cluster["spec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


# ---------------------------------------------------------------- the image, versions, scripts

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()


def test_every_file_names_the_pinned_ray() -> None:
    (cluster,) = manifests("raycluster.yaml")
    assert cluster["spec"]["rayVersion"] == pinned("ray")
    text = "\n".join(path.read_text() for path in CLUSTER.iterdir() if path.is_file())
    assert set(re.findall(r"rayproject/ray:([\d.]+)-py311", text)) == {pinned("ray")}


def test_the_dockerfile_passes_hadolint_and_runs_as_a_user_who_is_not_root() -> None:
    command = [linter("hadolint"), "--no-color", str(CLUSTER / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    after = DOCKERFILE.rpartition("\nUSER ")[2]
    assert after.startswith("1000:1000\n")
    assert "\nRUN " not in after


def test_the_image_copies_only_what_exists_and_is_sent() -> None:
    sent = [line[1:] for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    sources = [source for words in copied for source in words]
    assert sorted(sources) == sorted(sent)
    assert all(list(ROOT.glob(source)) for source in sources)


def test_shell_scripts_pass_shellcheck() -> None:
    scripts = [*CLUSTER.glob("*.sh"), ROOT / ".ci" / "run", ROOT / ".ci" / "setup"]
    command = [linter("shellcheck"), *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert all(script.stat().st_mode & 0o111 == 0o111 for script in scripts)


# ---------------------------------------------------------------- monitoring


def documented_metrics() -> set[str]:
    """Return the names in Prometheus, from the table in docs/cluster.md."""
    page = (CLUSTER.parent / "docs" / "cluster.md").read_text()
    return set(re.findall(r"^\| `(ray_rllib_portfolio_\w+)`", page, re.MULTILINE))


def test_the_dashboard_shows_every_documented_metric_and_no_other() -> None:
    dashboard = json.loads((CLUSTER / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}
    assert shown == documented_metrics()
    assert len(documented_metrics()) == 5


SECRET = re.compile(
    r"(?i:token|passw(?:or)?d|secret|api_?key|credential)s?[\"']?\s*[:=]\s*[\"']?(?!required)[A-Za-z0-9+_\-][A-Za-z0-9+/_\-.]{7,}"
    r"|(?<![\w/+-])(?=[A-Za-z0-9+/]*\d)(?=[A-Za-z0-9+/]*[A-Za-z])[A-Za-z0-9+/]{32,}={0,2}(?![\w/+-])|AKIA[0-9A-Z]{16}|-----BEGIN"
)
"""A value that is given a telling name, a long run of letters and digits, or a key of a known form."""


def test_no_file_holds_a_secret() -> None:
    assert SECRET.search("RAY_AUTH_TOKEN=" + "0a1b2c3d" * 8)
    found = {path.name: SECRET.search(path.read_text()) for path in CLUSTER.rglob("*") if path.is_file()}
    assert {name: match[0] for name, match in found.items() if match} == {}
