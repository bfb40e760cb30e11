"""The files of deploy/: an image and containers without root, with pinned versions, probes and read-only systems.

The rules for the Dockerfile are those of hadolint that no engine is needed for, by their numbers. `make ship` checks
the files by published schemas, and runs the steps of the image.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from benchmarks.kit.dockerfile import read
from flows.server.health import metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
STAGES = read(DOCKERFILE)
KNOWN = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "LABEL", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
MANIFESTS = [
    (file.name, manifest)
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text("utf-8"))
]
POOL = json.loads((DEPLOY / "kubernetes/pool.json").read_text("utf-8"))
JOB = POOL["job_configuration"]["job_manifest"]


def of(name, stage=-1):
    return [one for one in STAGES[stage] if one.name == name]


def test_instructions_are_known_and_stages_have_a_tag():
    """DL3000, DL3006, DL3007, DL3024, DL4000: tags, absolute folders, stages of other names, no MAINTAINER."""
    assert {one.name for stage in STAGES for one in stage} <= KNOWN
    bases = [one.text.split() for stage in range(len(STAGES)) for one in of("FROM", stage)]
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+[a-z0-9.-]*", base[0]) for base in bases)
    assert len({base[0] for base in bases}) == 1
    assert all(one.text.startswith("/") for stage in range(len(STAGES)) for one in of("WORKDIR", stage))


def test_packages_of_the_system_are_pinned_and_leave_no_lists():
    """DL3008, DL3009, DL3014, DL3015; DL3013 and DL3042 for pip; DL3004 for sudo; DL3003 for cd."""
    commands = [command for stage in range(len(STAGES)) for run in of("RUN", stage) for command in run.commands()]
    assert not [command for command in commands if command.split()[0] in ("sudo", "cd", "curl", "wget")]
    for run in of("RUN"):
        if "apt-get install" in run.text:
            assert "--no-install-recommends" in run.text
            assert "--yes" in run.text
            assert "rm -rf /var/lib/apt/lists/*" in run.text
            [install] = [command for command in run.commands() if command.startswith("apt-get install")]
            assert all("=" in word for word in install.split()[2:] if not word.startswith("-"))
    for command in commands:
        if command.startswith("pip install"):
            assert "--no-cache-dir" in command
            assert all("==" in word for word in command.split()[2:] if not word.startswith("-"))


def test_image_runs_as_a_user_without_rights_and_is_probed():
    """DL3002, DL3025, DL4003, DL3012: no root, the exec form, one CMD and one HEALTHCHECK."""
    [user], [command], [probe] = of("USER"), of("CMD"), of("HEALTHCHECK")
    assert user.text == "10001:10001"
    assert command.words()[:4] == ["python", "-m", "flows", "schedule"]
    assert command.words()[-1] in " ".join(probe.words())  # the port
    assert STAGES[-1].index(user) < STAGES[-1].index(command)
    assert not [one for one in STAGES[-1] if re.search(r"\b(gcc|build-essential|g\+\+|make|pytest)\b", one.text)]


def test_image_gets_nothing_of_the_project_but_the_names_of_packages():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split("\n")
    assert [line for line in ignored if line and not line.startswith("#")] == [
        "*", "!pyproject.toml", "!requirements*.lock"
    ]  # fmt: skip
    copied = [word for stage in range(len(STAGES)) for one in of("COPY", stage) for word in one.text.split()[:-1]]
    assert copied == ["pyproject.toml", "requirements.lock", "--from=packages", "/opt/graftline"]
    [uv] = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    assert f"uv=={uv}" in " ".join(one.text for one in of("RUN", 0))


@pytest.mark.parametrize("name", list(COMPOSE["services"]))
def test_container_has_no_root_no_rights_a_read_only_system_and_a_probe(name):
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert not {"privileged", "network_mode", "pid", "cap_add"} & service.keys()
    assert name == "worker" or service["healthcheck"]["test"][0] == "CMD"  # the worker has that of the image
    assert re.fullmatch(r"[a-z/]+:(?!latest).+", service["image"])
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    secrets = [key for key in service.get("environment", {}) if re.search("PASSWORD|AUTH|SECRET|TOKEN", key)]
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", service["environment"][key]) for key in secrets)


def test_database_and_store_are_reached_from_inside_alone():
    assert COMPOSE["services"]["postgres"]["networks"] == ["database"]
    assert COMPOSE["services"]["store"]["networks"] == ["inside"]
    assert all(COMPOSE["networks"][name]["internal"] for name in ("database", "inside"))


def test_page_names_every_variable_of_the_compose_file():
    wanted = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text("utf-8")))
    page = (ROOT / "docs/service.md").read_text("utf-8")
    assert {name for name in wanted if f"{name}=" not in page} == set()


def pods():
    for file, manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            yield file, manifest["spec"]["template"]["spec"]
    yield "pool.json", JOB["spec"]["template"]["spec"]


@pytest.mark.parametrize(("file", "pod"), list(pods()), ids=[file for file, _ in pods()])
def test_pod_has_no_root_no_rights_and_a_read_only_system(file, pod):
    assert pod["securityContext"]["runAsNonRoot"]
    assert file == "worker.yaml" or pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert container["resources"]["limits"]["memory"]
    assert file == "pool.json" or container["livenessProbe"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_manifests_hold_no_secret_and_agree_on_their_names():
    claims = {manifest["metadata"]["name"] for _, manifest in MANIFESTS if manifest["kind"] == "PersistentVolumeClaim"}
    for _, pod in pods():
        used = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "emptyDir" not in volume}
        assert used <= claims
    assert not [manifest for _, manifest in MANIFESTS if manifest["kind"] == "Secret"]


def test_pool_offers_every_variable_that_its_job_asks_for():
    wanted = set(re.findall(r"{{ (\w+) }}", json.dumps(POOL["job_configuration"])))
    assert wanted == set(POOL["variables"]["properties"])


def test_panel_asks_for_metrics_that_there_are():
    facts = {
        "is_healthy": True, "serving_since": "2026-03-01T00:00:00Z", "queue": {"due": 0},
        "deployments": {"retrain": {"last_run": {"start": "2026-03-01T00:00:00Z", "has_failed": False},
                                    "last_success": "2026-03-01T00:00:00Z"}},
        "model_in_use": {"version": 1, "since": "2026-03-01T00:00:00Z", "accuracy": {"label": 0.9}},
    }  # fmt: skip
    known = set(re.findall(r"^(graftline_\w+)", metrics(facts), flags=re.MULTILINE))
    board = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
    asked = {name for panel in board["panels"] for target in panel["targets"]
             for name in re.findall(r"graftline_\w+", target["expr"])}  # fmt: skip
    assert asked
    assert asked - known <= {name for name in asked if name.startswith("graftline_serve_")}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_job_on_ray_has_the_fields_of_a_ray_job_and_pods_like_the_others():
    """The fields are those that `ray-operator/apis/ray/v1` of KubeRay declares; no schema of them can be installed."""
    job, policy = yaml.safe_load_all((DEPLOY / "ray/job.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert set(spec) <= {
        "activeDeadlineSeconds", "backoffLimit", "entrypoint", "rayClusterSpec", "runtimeEnvYAML",
        "shutdownAfterJobFinishes", "submissionMode", "submitterPodTemplate", "ttlSecondsAfterFinished",
    }  # fmt: skip
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert f"ray=={cluster['rayVersion']} " in (ROOT / "requirements-ray.lock").read_text("utf-8")
    head, [workers] = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) == {"rayStartParams", "template"}
    assert set(workers) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    of_worker = next(one for name, one in MANIFESTS if name == "worker.yaml" and one["kind"] == "Deployment")
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        assert pod["securityContext"] == of_worker["spec"]["template"]["spec"]["securityContext"]
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()
