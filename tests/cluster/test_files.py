"""Each file of cluster/ against the schema, the linter or the strict model of its kind. Nothing is started."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.cluster.manifests import NetworkPolicy, read_manifests

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ["aws.yaml", "on-premise.yaml"]
MANIFESTS = ["raycluster.yaml", "rayjob.yaml", "storage-and-network.yaml"]
SHELL = sorted(path.name for path in CLUSTER.glob("*.sh"))


def pinned(package: str) -> str:
    (version,) = re.findall(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return str(version)


def linter(name: str) -> str:
    beside_python = Path(sys.executable).parent / name
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def lint(command: list[str], text: str) -> str:
    """What a linter says of a text; empty if it is content."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == (done.stdout == ""), done.stderr
    return done.stdout


# ---------------------------------------------------------------- ray up


def launcher(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return config


def validate_launcher(config: dict[str, Any]) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util", reason="Ray moved its launcher's schema")
    util.validate_config(util.prepare_config(copy.deepcopy(config)))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launcher_files_follow_rays_schema(name: str) -> None:
    validate_launcher(launcher(name))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_misspelt_launcher_key_is_refused(name: str) -> None:
    from jsonschema import ValidationError as SchemaError

    with pytest.raises(SchemaError, match="idle_timeout_minuets"):
        validate_launcher({**launcher(name), "idle_timeout_minuets": 5})


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
    commands = (CLUSTER / "README.md").read_text()
    folders = {Path(name) for name in re.findall(r"--(?:output-dir|storage-path) (/shared\S+)", commands)}
    given = re.findall(r"install -d -o 1000 -g 100 (/\S+)", (CLUSTER / "aws.yaml").read_text())
    assert len(folders) >= 3
    assert [folder for folder in folders if not any(folder.is_relative_to(owned) for owned in given)] == []


def test_every_file_that_a_launcher_copies_exists() -> None:
    for name in LAUNCHERS:
        sources = [source for source in launcher(name)["file_mounts"].values() if not source.startswith("~")]
        assert sources == ["pyproject.toml", "constraints.txt"]
        assert all((ROOT / source).is_file() for source in sources)


# ---------------------------------------------------------------- Kubernetes


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_have_the_fields_that_they_need_and_no_others(name: str) -> None:
    assert read_manifests((CLUSTER / name).read_text())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("maxReplicas: 4", "maxReplica: 4"),
        ("maxReplicas: 4", 'maxReplicas: "4"'),
        ("replicas: 0", "replicas: 7"),
        ("mode: token", "mode: disabled"),
        ("serviceType: ClusterIP", "serviceType: LoadBalancer"),
        ("runAsNonRoot: true", "runAsNonRoot: false"),
        ("runAsUser: 1000", "runAsUser: 0"),
        ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
        ("drop: [ALL]", "add: [SYS_ADMIN]"),
        ("memory: 6Gi}", "memory: 6gb}"),
        ("- {name: results, mountPath: /results}", "- {name: result, mountPath: /results}"),
        ("automountServiceAccountToken: false", "hostNetwork: true"),
        ("app: rllib-portfolio}", "app: rllib}"),
    ],
)
def test_a_wrong_or_a_less_safe_manifest_is_refused(right: str, wrong: str) -> None:
    for name in ("raycluster.yaml", "rayjob.yaml"):
        text = (CLUSTER / name).read_text()
        assert right in text
        with pytest.raises(ValidationError):
            read_manifests(text.replace(right, wrong))


def test_cluster_and_job_manifest_describe_the_same_cluster() -> None:
    (cluster,) = read_manifests((CLUSTER / "raycluster.yaml").read_text())
    (job,) = read_manifests((CLUSTER / "rayjob.yaml").read_text())
    assert job.spec.ray_cluster_spec == cluster.spec
    groups = {group.group_name: group for group in cluster.spec.worker_group_specs}
    assert set(groups) == {"env-runners", "gpu-learner"}
    gpus = {
        name: group.template.spec.containers[0].resources.limits.gpu is not None
        for name, group in groups.items()
    }  # fmt: skip
    assert gpus == {"env-runners": False, "gpu-learner": True}


def test_the_network_policy_admits_the_cluster_the_operator_and_prometheus() -> None:
    claim, policy = read_manifests((CLUSTER / "storage-and-network.yaml").read_text())
    assert isinstance(policy, NetworkPolicy)
    own, operator, prometheus = policy.spec.ingress
    assert own.sources[0].pod_selector == policy.spec.pod_selector
    assert own.ports == []
    for rule, namespace, port in ((operator, "kuberay-system", 8265), (prometheus, "monitoring", 8080)):
        assert rule.sources[0].namespace_selector is not None
        assert rule.sources[0].namespace_selector.match_labels.name == namespace
        assert [opened.port for opened in rule.ports] == [port]
    (cluster,) = read_manifests((CLUSTER / "raycluster.yaml").read_text())
    volume = cluster.spec.head_group_spec.template.spec.volumes[0]
    assert volume.persistent_volume_claim.claim_name == claim.metadata.name


# ---------------------------------------------------------------- versions


def test_every_file_names_the_pinned_ray_and_one_uv() -> None:
    (cluster,) = read_manifests((CLUSTER / "raycluster.yaml").read_text())
    assert cluster.spec.ray_version == pinned("ray")
    text = "\n".join(path.read_text() for path in CLUSTER.iterdir() if path.is_file())
    assert set(re.findall(r"rayproject/ray:([\d.]+)-py311", text)) == {pinned("ray")}
    assert len(set(re.findall(r"\buv==([\d.]+)", text))) == 1


# ---------------------------------------------------------------- the image

DOCKERFILE = (CLUSTER / "Dockerfile").read_text()


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile and the rest of its line."""
    lines = [line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_passes_hadolint() -> None:
    assert lint([linter("hadolint"), "--no-color", "-"], DOCKERFILE) == ""


def test_hadolint_finds_what_it_should() -> None:
    loose = re.sub(r"FROM python:\S+", "FROM python", DOCKERFILE).replace("--require-hashes --requirement uv.txt", "uv")
    found = lint([linter("hadolint"), "--no-color", "-"], loose)
    assert "DL3006" in found  # an image without a tag
    assert "DL3013" in found  # a package without a version


def test_the_image_runs_as_a_user_who_is_not_root() -> None:
    users = [rest for word, rest in instructions(DOCKERFILE) if word == "USER"]
    assert users == ["1000:1000"]
    after = [word for word, _ in instructions(DOCKERFILE)]
    assert "RUN" not in after[after.index("USER") :]


def test_the_image_is_built_on_an_exact_python_that_the_project_is_tested_with() -> None:
    images = {rest.split()[0] for word, rest in instructions(DOCKERFILE) if word == "FROM"}
    (image,) = images
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", image)


def test_the_image_copies_only_what_exists_and_is_sent() -> None:
    sent = [line[1:] for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = [rest for word, rest in instructions(DOCKERFILE) if word == "COPY" and "--from" not in rest]
    sources = [source for rest in copied for source in rest.split()[:-1]]
    assert sorted(sources) == sorted(sent)
    for source in sources:
        assert list(ROOT.glob(source)), source
    assert "ADD" not in [word for word, _ in instructions(DOCKERFILE)]


def test_every_package_of_the_image_is_pinned() -> None:
    runs = [rest for word, rest in instructions(DOCKERFILE) if word == "RUN" and "pip install" in rest]
    installs = [part for rest in runs for part in re.split(r"&&", rest)]
    installs = [part for part in installs if "pip install" in part]
    assert len(installs) == 3
    for install, name in zip(installs, ("pip", "uv", None), strict=True):
        is_locked = "--constraints requirements.lock" in install and "--verify-hashes" in install
        assert is_locked if name is None else f"--require-hashes --requirement {name}.txt" in install


def test_the_image_takes_pip_and_uv_with_their_hashes_from_the_lock(tmp_path: Path) -> None:
    (line,) = (rest for word, rest in instructions(DOCKERFILE) if word == "RUN" and "awk" in rest)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    for part in line.split("&&"):
        if "awk" in part:
            subprocess.run(["bash", "-c", part], cwd=tmp_path, check=True)
    for name in ("pip", "uv"):
        first, *hashes = (tmp_path / f"{name}.txt").read_text().splitlines()
        assert first == f"{name}=={pinned(name)} \\"
        assert hashes
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?", each) for each in hashes)
        assert not hashes[-1].endswith("\\")


# ---------------------------------------------------------------- shell


@pytest.mark.parametrize("name", SHELL)
def test_shell_scripts_pass_shellcheck(name: str) -> None:
    assert lint([linter("shellcheck"), "-"], (CLUSTER / name).read_text()) == ""
    assert (CLUSTER / name).stat().st_mode & 0o111 == 0o111


# ---------------------------------------------------------------- monitoring


def documented_metrics() -> dict[str, str]:
    """Name in the code to name in Prometheus, of the table in cluster/README.md."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (gauge|counter)", (CLUSTER / "README.md").read_text(), re.MULTILINE)
    assert all(
        exported == f"ray_{name}" + ("_total" if kind == "counter" else "") for name, exported, kind in rows
    )  # fmt: skip
    return {name: exported for name, exported, _ in rows}


def test_the_dashboard_shows_every_documented_metric_and_no_other() -> None:
    dashboard = json.loads((CLUSTER / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"\bray_\w+", expression)}
    assert shown == set(documented_metrics().values())
    assert len(documented_metrics()) == 5
    for query in [entry["query"] for entry in dashboard["templating"]["list"] if entry["type"] == "query"]:
        assert set(re.findall(r"\bray_\w+", query)) <= shown


def test_dashboard_panels_have_a_place_and_a_meaning_of_their_own() -> None:
    panels = json.loads((CLUSTER / "grafana-dashboard.json").read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] for panel in panels)


def test_prometheus_reads_the_list_that_ray_keeps() -> None:
    config = yaml.safe_load((CLUSTER / "prometheus.yml").read_text())
    assert set(config) == {"global", "scrape_configs"}
    (scrape,) = config["scrape_configs"]
    assert set(scrape) == {"job_name", "file_sd_configs"}
    files = scrape["file_sd_configs"][0]["files"]
    assert files[0] == "/tmp/ray/prom_metrics_service_discovery.json"
    assert f"{default_cluster_dir()}/head/prom_metrics_service_discovery.json" in files
    # Prometheus takes a wildcard in the last part of a path only.
    assert all(re.fullmatch(r"[^*]*(\*[^/]*)?\.(json|ya?ml)", file) for file in files)


def default_cluster_dir() -> str:
    (folder,) = re.findall(r"dir=\$\{CLUSTER_DIR:-(\S+)\}", (CLUSTER / "local.sh").read_text())
    return str(folder)


# ---------------------------------------------------------------- secrets

_NAMED = re.compile(
    r"(?i)(token|passw(?:or)?d|secret|api_?key|credential)s?[\"']?\s*[:=]\s*[\"']?([A-Za-z0-9+/_\-.]{8,})"
)
_RANDOM = re.compile(r"(?<![\w/+-])(?=[A-Za-z0-9+/]*\d)(?=[A-Za-z0-9+/]*[A-Za-z])[A-Za-z0-9+/]{32,}={0,2}(?![\w/+-])")
_KNOWN = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN|gh[pousr]_[A-Za-z0-9]{20}|(?<![\w-])sk-[A-Za-z0-9-]{16}")


def secrets_in(text: str) -> list[str]:
    named = [
        value for _, value in _NAMED.findall(text) if not value.startswith(("/", "~", ".")) and value != "required"
    ]
    return named + _RANDOM.findall(text) + _KNOWN.findall(text)


@pytest.mark.parametrize("path", sorted(path for path in CLUSTER.rglob("*") if path.is_file()), ids=lambda p: p.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert secrets_in(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "RAY_AUTH_TOKEN=" + "0a1b2c3d" * 8,
        "  auth_token: " + "super-secret-token",
        'password = "' + "correct-horse" + '"',
        "key: " + "c2VjcmV0MTIz" * 4,
        "AKIA" + "IOSFODNN7EXAMPLE",
        "-----BEGIN" + " OPENSSH PRIVATE KEY-----",
    ],
)
def test_the_search_for_secrets_finds_some(line: str) -> None:
    assert secrets_in(line)
