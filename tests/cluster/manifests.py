"""The fields that the Kubernetes manifests use, strictly: a name that is not here is misspelt, or is added on purpose.

What security asks for is part of the types: a manifest without it does not validate.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

Quantity = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(m|Mi|Gi)?$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
Image = Annotated[str, StringConstraints(pattern=r"^rllib-portfolio:0\.1\.0(-cuda)?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """Kubernetes' spelling of field names, none but those named here, and no conversions: "4" is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class AppLabel(Manifest):
    app: Literal["rllib-portfolio"]


class Metadata(Manifest):
    name: Name


class PodMetadata(Manifest):
    labels: AppLabel


class SeccompProfile(Manifest):
    type: Literal["RuntimeDefault"]


class PodSecurity(Manifest):
    run_as_non_root: Literal[True]
    run_as_user: Annotated[int, Field(ge=1000)]
    run_as_group: Annotated[int, Field(ge=1000)]
    fs_group: Annotated[int, Field(ge=1000)] | None = None
    seccomp_profile: SeccompProfile


class Capabilities(Manifest):
    drop: list[Literal["ALL"]] = Field(min_length=1)


class ContainerSecurity(Manifest):
    allow_privilege_escalation: Literal[False]
    capabilities: Capabilities


class Amounts(Manifest):
    cpu: Quantity
    memory: Quantity
    gpu: Quantity | None = Field(None, alias="nvidia.com/gpu")


class Resources(Manifest):
    requests: Amounts
    limits: Amounts

    @model_validator(mode="after")
    def memory_and_gpus_must_be_what_is_asked_for(self) -> Resources:
        """A pod above its request is the first to be killed; GPUs cannot differ at all."""
        assert self.requests.memory == self.limits.memory
        assert self.requests.gpu == self.limits.gpu
        return self


class ContainerPort(Manifest):
    name: Name
    container_port: Port


class Variable(Manifest):
    name: Literal["RAY_JOB_STOP_WAIT_TIME_S"]
    value: str


class Mount(Manifest):
    name: Name
    mount_path: Literal["/results"]


class Container(Manifest):
    name: Name
    image: Image
    security_context: ContainerSecurity
    resources: Resources
    env: list[Variable] = []
    ports: list[ContainerPort] = []
    volume_mounts: list[Mount] = []


class Claim(Manifest):
    claim_name: Literal["rllib-portfolio-results"]


class Volume(Manifest):
    name: Name
    persistent_volume_claim: Claim


class Toleration(Manifest):
    key: str
    operator: Literal["Exists"]
    effect: Literal["NoSchedule"]


class PodSpec(Manifest):
    security_context: PodSecurity
    containers: list[Container] = Field(min_length=1, max_length=1)
    volumes: list[Volume] = []
    tolerations: list[Toleration] = []
    restart_policy: Literal["Never"] | None = None
    automount_service_account_token: Literal[False] | None = None

    @model_validator(mode="after")
    def mounts_must_name_volumes(self) -> PodSpec:
        mounted = {mount.name for container in self.containers for mount in container.volume_mounts}
        assert mounted == {volume.name for volume in self.volumes}
        return self


class PodTemplate(Manifest):
    metadata: PodMetadata
    spec: PodSpec


class AuthOptions(Manifest):
    mode: Literal["token"]


class AutoscalerOptions(Manifest):
    version: Literal["v2"]
    idle_timeout_seconds: Annotated[int, Field(gt=0)]
    resources: Resources
    security_context: ContainerSecurity


class HeadStart(Manifest):
    num_cpus: Literal["0"] = Field(alias="num-cpus")


class HeadGroup(Manifest):
    service_type: Literal["ClusterIP"]
    ray_start_params: HeadStart
    template: PodTemplate


class WorkerGroup(Manifest):
    group_name: Name
    replicas: Count
    min_replicas: Count
    max_replicas: Count
    ray_start_params: dict[str, str] = Field(max_length=0)
    template: PodTemplate

    @model_validator(mode="after")
    def replicas_must_lie_within_their_bounds(self) -> WorkerGroup:
        assert self.min_replicas <= self.replicas <= self.max_replicas
        assert self.template.spec.automount_service_account_token is False
        return self


class ClusterSpec(Manifest):
    ray_version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    enable_in_tree_autoscaling: Literal[True]
    auth_options: AuthOptions
    autoscaler_options: AutoscalerOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup] = Field(min_length=1)


class JobSpec(Manifest):
    entrypoint: str
    submission_mode: Literal["K8sJobMode"]
    backoff_limit: Literal[0]
    active_deadline_seconds: Annotated[int, Field(gt=0)]
    shutdown_after_job_finishes: Literal[True]
    ttl_seconds_after_finished: Count
    submitter_pod_template: PodTemplate
    ray_cluster_spec: ClusterSpec


class RayCluster(Manifest):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class RayJob(Manifest):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


class Storage(Manifest):
    storage: Quantity


class StorageRequest(Manifest):
    requests: Storage


class ClaimSpec(Manifest):
    access_modes: list[Literal["ReadWriteMany"]] = Field(min_length=1, max_length=1)
    resources: StorageRequest


class PersistentVolumeClaim(Manifest):
    api_version: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Metadata
    spec: ClaimSpec


class PodSelector(Manifest):
    match_labels: AppLabel


class NamespaceLabel(Manifest):
    name: Name = Field(alias="kubernetes.io/metadata.name")


class NamespaceSelector(Manifest):
    match_labels: NamespaceLabel


class Peer(Manifest):
    pod_selector: PodSelector | None = None
    namespace_selector: NamespaceSelector | None = None


class OpenPort(Manifest):
    protocol: Literal["TCP"]
    port: Port


class IngressRule(Manifest):
    sources: list[Peer] = Field(alias="from", min_length=1)  # an empty list would admit everybody
    ports: list[OpenPort] = []


class PolicySpec(Manifest):
    pod_selector: PodSelector
    policy_types: list[Literal["Ingress"]] = Field(min_length=1)
    ingress: list[IngressRule]


class NetworkPolicy(Manifest):
    api_version: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: Metadata
    spec: PolicySpec


KINDS: dict[str, type[Manifest]] = {
    kind.__name__: kind for kind in (RayCluster, RayJob, PersistentVolumeClaim, NetworkPolicy)
}


def read_manifests(text: str) -> list[Any]:
    """The documents of a manifest file; raises what pydantic raises, and KeyError for a kind that is not known."""
    return [KINDS[document["kind"]].model_validate(document) for document in yaml.safe_load_all(text)]
