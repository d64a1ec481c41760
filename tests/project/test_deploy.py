"""What lies under deploy/, as far as it can be checked where no container engine runs."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dicomnode.config.load import Config, load
from dicomnode.node.roles import ROLES

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CONFIGURATIONS = [DEPLOY / "compose" / "node.yaml", KUBERNETES / "node.yaml"]
Document = Mapping[str, Any]


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text()))


def manifests() -> list[Document]:
    """Every object that the kustomization brings to a cluster."""
    names = documents(KUBERNETES / "kustomization.yaml")[0]["resources"]
    return [one for name in names for one in documents(KUBERNETES / name)]


def pods() -> list[tuple[Document, Document]]:
    """Every object with a pod, and the pod's spec."""
    return [
        (one, one["spec"]["template"]["spec"]) for one in manifests() if one["kind"] in ("Deployment", "StatefulSet")
    ]


COMPOSE = documents(DEPLOY / "compose.yaml")[0]
NAMED = [f"{one['kind']} {one['metadata']['name']}" for one in manifests()]


@pytest.mark.parametrize("manifest", manifests(), ids=NAMED)
def test_every_manifest_is_what_the_kubernetes_api_takes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_every_file_of_the_folder_is_in_the_kustomization() -> None:
    kustomization = documents(KUBERNETES / "kustomization.yaml")[0]
    named = {"kustomization.yaml", *kustomization["resources"], *kustomization["configMapGenerator"][0]["files"]}
    assert named == {path.name for path in KUBERNETES.iterdir()}


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_every_configuration_is_one_that_the_node_takes(path: Path) -> None:
    config = load(path)
    assert config.node.data == Path("/var/lib/sct-node")
    assert config.node.bind == config.metrics.bind == "0.0.0.0"  # a loopback address of a container is nobody's


def test_every_role_has_its_pod() -> None:
    assert {pod["containers"][0]["args"][0] for _, pod in pods()} == set(ROLES)


def test_every_pod_runs_with_no_more_rights_than_it_needs() -> None:
    for _, pod in pods():
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert "livenessProbe" in container


def test_the_image_s_user_is_the_pods_user() -> None:
    [user] = re.findall(r"^USER (\d+):\d+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert {str(pod["securityContext"]["runAsUser"]) for _, pod in pods()} == {user}


def test_ports_agree_from_the_configuration_to_the_service() -> None:
    config = load(KUBERNETES / "node.yaml")
    wanted = {"dicom": config.node.port, "page": config.web.port, "metrics": config.metrics.port}
    for _, pod in pods():
        for port in pod["containers"][0].get("ports", []):
            assert wanted[port["name"]] == port["containerPort"]
    allowed = {
        port["port"]
        for one in manifests()
        if one["kind"] == "NetworkPolicy"
        for rule in one["spec"].get("ingress", [])
        for port in rule["ports"]
    }
    assert allowed == set(wanted.values())


def test_every_policy_chooses_pods_that_exist() -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one, _ in pods()]
    for one in manifests():
        if one["kind"] == "NetworkPolicy" and one["spec"]["podSelector"]:
            assert one["spec"]["podSelector"]["matchLabels"] in labels


def test_a_liveness_probe_asks_for_the_lock_that_its_role_holds() -> None:
    for owner, pod in pods():
        probe = pod["containers"][0]["livenessProbe"]
        if "exec" in probe:
            assert f"-{owner['metadata']['name']}-0.lock" in probe["exec"]["command"][-1]


def test_compose_mounts_files_that_are_there() -> None:
    mounted = [
        mount.split(":")[0]
        for service in COMPOSE["services"].values()
        for mount in service.get("volumes", [])
        if mount.startswith("./")
    ]
    assert mounted
    assert [name for name in mounted if not (DEPLOY / name).exists()] == []


def test_compose_uses_the_volumes_and_secrets_that_it_declares() -> None:
    services = COMPOSE["services"].values()
    volumes = {mount.split(":")[0] for one in services for mount in one.get("volumes", []) if not mount.startswith(".")}
    assert volumes == set(COMPOSE["volumes"])
    assert {name for one in services for name in one.get("secrets", [])} == set(COMPOSE["secrets"])


def test_compose_pins_every_image() -> None:
    assert all(re.search(r":v?\d", service["image"]) for service in COMPOSE["services"].values())


def test_compose_s_node_finds_its_neighbours() -> None:
    config = load(DEPLOY / "compose" / "node.yaml")
    [destination] = config.destinations
    orthanc = yaml.safe_load((DEPLOY / "compose" / "orthanc.json").read_text())
    assert (destination.host, destination.port) == ("archive", orthanc["DicomPort"])
    assert destination.ae_title == orthanc["DicomAet"]
    peer = orthanc["DicomModalities"]["sct-node"]
    assert (peer["AET"], peer["Host"], peer["Port"]) == (config.node.ae_title, "node", config.node.port)
    assert neighbours(config) <= set(COMPOSE["services"])


def neighbours(config: Config) -> set[str]:
    """The hosts that the node of compose.yaml, and its Prometheus, talk to."""
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    [target] = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert int(port) == config.metrics.port
    database = re.findall(r"@([^:/]+)", config.database)
    return {host, *database, *(one.host for one in config.destinations)}


def test_prometheus_takes_its_configuration(program: Callable[[str], str]) -> None:
    path = DEPLOY / "prometheus" / "prometheus.yml"
    subprocess.run([program("promtool"), "check", "config", path], check=True, capture_output=True)


def test_the_image_is_built_from_every_package_of_the_wheel() -> None:
    project = (DEPLOY.parent / "pyproject.toml").read_text()
    [packages] = re.findall(r"^packages = \[(.*)\]$", project, re.MULTILINE)
    for package in re.findall(r'"(\w+)"', packages):
        assert f"COPY {package} {package}\n" in (DEPLOY / "Dockerfile").read_text()
        assert f"!{package}\n" in (DEPLOY / "Dockerfile.dockerignore").read_text()


UNIT = DEPLOY / "sct-node.service"


def test_systemd_understands_every_line_of_the_unit(program: Callable[[str], str], tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("ExecStart=/opt/sct-node/bin/sct-node", f"ExecStart={sys.executable}"))
    verified = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_gives_the_node_few_rights(program: Callable[[str], str]) -> None:
    judge = [program("systemd-analyze"), "security", "--offline=yes", "--no-pager", "--threshold=15", str(UNIT)]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout[-500:]
