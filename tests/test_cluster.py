"""What docs/cluster.md starts a cluster with: it holds together, and no node of it begins without a token."""

import re
import shutil
import subprocess

import pytest
import typer
import yaml

from jsigr_lib import cli
from jsigr_lib.store.paths import ROOT

PAGE, SCRIPT, MANIFEST = (
    ROOT / "docs" / name for name in ("cluster.md", "cluster/slurm.sh", "cluster/kubernetes.yaml")
)
RESOURCES = {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))}
PODS = [RESOURCES[kind]["spec"]["template"] for kind in ("Job", "Deployment")]


def test_the_options_of_the_command_exist():
    known = {name for one in typer.main.get_command(cli.app).commands["run"].params for name in one.opts}
    for path in (PAGE, SCRIPT, MANIFEST):
        calls = re.findall(r"jsigr run (.*--engine.*)", path.read_text(encoding="utf-8"))
        assert calls and {name for call in calls for name in re.findall(r"--[a-z-]+", call)} <= known


@pytest.mark.parametrize("path", [PAGE, SCRIPT])
def test_a_token_is_asked_for_before_ray_starts(path):
    text = path.read_text(encoding="utf-8")
    assert text.index("RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0\n") < text.index("ray start")


def test_every_pod_asks_for_the_token_and_only_such_pods_reach_it():
    (policy,) = RESOURCES["NetworkPolicy"]["spec"]["ingress"]
    for pod in PODS:
        (container,) = pod["spec"]["containers"]
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
        assert container["envFrom"] == [{"secretRef": {"name": "jsigr-token"}}]
        assert policy["from"] == [{"podSelector": {"matchLabels": {"app": pod["metadata"]["labels"]["app"]}}}]


def test_workers_find_the_head():
    service, (job, workers) = RESOURCES["Service"], PODS
    assert service["spec"]["selector"] == job["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    (start,) = workers["spec"]["containers"][0]["args"]
    assert f"--address {service['metadata']['name']}:{port['port']} " in start
    assert f"--port {port['port']} " in job["spec"]["containers"][0]["args"][0]


def test_the_script_is_clean():
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0
    if not shutil.which("shellcheck"):
        pytest.skip("there is no shellcheck here")
    assert subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True).stdout == ""
