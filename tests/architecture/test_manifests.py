"""What deploy/kubernetes says of the workers is what the code says of itself; their schemas are for tests/extra."""

import re
from pathlib import Path

import pytest
import yaml

from backtalk.runtime.secret_files import SECRETS_DIR
from backtalk.runtime.serving import LAST_WORDS_SECONDS
from backtalk.runtime.settings import Settings
from backtalk.transport.topology import ROLES, Names
from benchmarks.scaling.scenario import Scaling

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy/kubernetes/base"
README = (ROOT / "deploy/kubernetes/README.md").read_text("utf-8")
MIB = 1024 * 1024
DOCUMENTS = [
    one
    for path in sorted(BASE.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for one in yaml.safe_load_all(path.read_text("utf-8"))
]
SHARED = dict(
    line.split("=", 1)
    for line in (BASE / "settings.env").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
)
# what is read from the environment beside the settings
OTHERS = {SECRETS_DIR, "OPENAI_BASE_URL"}
KNOWN = {f"BACKTALK_{name}".upper() for name in Settings.model_fields}


def found(kind, name):
    """Return the one document of a kind and a name."""
    (document,) = (one for one in DOCUMENTS if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return document


@pytest.fixture(params=ROLES)
def role(request):
    return request.param


@pytest.fixture
def pod(role):
    return found("Deployment", f"{role}-worker")["spec"]["template"]["spec"]


@pytest.fixture
def container(pod):
    (container,) = pod["containers"]
    return container


@pytest.fixture
def environment(container):
    """Return the variables that a worker starts with."""
    return SHARED | {one["name"]: one["value"] for one in container["env"]}


@pytest.fixture
def settings(environment, monkeypatch, tmp_path):
    """Return the settings that a worker makes of them."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(SECRETS_DIR, str(tmp_path))
    return Settings()


@pytest.fixture
def trigger(role):
    """Return what KEDA asks for a worker."""
    (trigger,) = found("ScaledObject", f"{role}-worker")["spec"]["triggers"]
    return trigger["metadata"]


def test_every_variable_is_a_setting(environment):
    """A name that no worker reads would be a wish."""
    assert set(environment) <= KNOWN | OTHERS


def test_a_job_that_has_begun_may_finish(pod, settings):
    """Its budget fits into the drain, and the drain with all last words into the time that the pod is given."""
    grace = pod["terminationGracePeriodSeconds"]
    assert settings.drain_seconds >= settings.job_budget_seconds
    # a worker, and the process of a suspect beside it, each with words of its own, and the connections
    assert grace > settings.drain_seconds + 3 * LAST_WORDS_SECONDS
    assert grace > Settings.model_fields["job_budget_seconds"].default


def test_the_memory_limit_is_the_bound(container, settings):
    """What no sender can exceed, of the worker and of the process of a suspect."""
    alone = settings.model_copy(update={"concurrency": 1})
    bound = settings.memory_bound() + alone.memory_bound()
    limit = container["resources"]["limits"]["memory"]
    assert limit == f"{bound // MIB}Mi"
    assert "cpu" not in container["resources"]["limits"]


def test_probes_ask_where_a_worker_answers(container, settings):
    """The kubelet comes from outside of the container, and asks paths that there are."""
    (port,) = container["ports"]
    assert port["containerPort"] == settings.health_port
    assert settings.health_host == "0.0.0.0"
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {one["port"] for one in asked.values()} == {port["name"]}
    assert {name: one["path"] for name, one in asked.items()} == {
        "startupProbe": "/live",
        "livenessProbe": "/live",
        "readinessProbe": "/ready",
    }


def test_the_port_is_the_same_for_everybody(role, settings):
    """Compose, scrapers and the network policy name it as well."""
    annotations = found("Deployment", f"{role}-worker")["spec"]["template"]["metadata"]["annotations"]
    (ingress,) = found("NetworkPolicy", "backtalk-workers")["spec"]["ingress"]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    assert annotations["prometheus.io/port"] == str(settings.health_port)
    assert [one["port"] for one in ingress["ports"]] == [settings.health_port]
    composed = compose["services"][f"{role}-worker"]["environment"]["BACKTALK_HEALTH_PORT"]
    assert composed == str(settings.health_port)


def test_a_start_may_take_as_long_as_a_worker_waits_for_its_broker(container, settings):
    """One that still waits is not killed."""
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > settings.connect_seconds


def test_nothing_may_be_done_that_a_worker_does_not_do(pod, container):
    """What Kubernetes calls restricted, and a user that the image has."""
    (user,) = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    context = pod["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user
    assert user[0] != "0"
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert found("ServiceAccount", pod["serviceAccountName"])["automountServiceAccountToken"] is False


def test_secrets_are_where_a_worker_looks(pod, container):
    """As files, that its group can read and nobody else."""
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert mount["mountPath"] == SHARED[SECRETS_DIR]
    assert mount["readOnly"] is True
    assert volume["projected"]["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_every_secret_is_made_and_every_key_is_read():
    """The commands of the README make just the Secrets that are mounted, with files that workers look for."""
    made = {
        name: set(re.findall(r"--from-file=([\w.]+)", options))
        for name, options in re.findall(r"create secret generic (\S+)((?: \\\n| --from-file=\S+)+)", README)
    }
    mounted = {
        source["secret"]["name"]
        for role in ROLES
        for volume in found("Deployment", f"{role}-worker")["spec"]["template"]["spec"]["volumes"]
        for source in volume["projected"]["sources"]
    }
    (asked,) = found("TriggerAuthentication", "backtalk-management")["spec"]["secretTargetRef"]
    assert made.pop(asked["name"]) == {asked["key"]}
    assert set(made) == mounted
    named = set.union(*made.values()) - {"ca.pem"}
    assert {key.upper() for key in named} <= KNOWN | {"OPENAI_API_KEY"}


def test_keda_counts_what_waits_and_what_is_being_worked_on(role, trigger):
    """Of the queue that the workers consume."""
    assert trigger["queueName"] == Names(SHARED["BACKTALK_NAMESPACE"]).work(role)
    assert (trigger["protocol"], trigger["mode"]) == ("http", "QueueLength")
    assert trigger["excludeUnacknowledged"] == "false"


def test_a_worker_is_added_before_the_others_are_full(trigger, settings):
    """Three quarters of what one takes at once."""
    assert int(trigger["value"]) == settings.concurrency * 3 // 4


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "ScaledObject"])
def test_every_worker_is_scaled_and_keeps_a_budget(role, kind):
    """A name that is mistyped would leave a worker without."""
    document = found(kind, f"{role}-worker")["spec"]
    target = document.get("scaleTargetRef") or {
        "name": document["selector"]["matchLabels"]["app.kubernetes.io/name"]
    }
    assert target == {"name": f"{role}-worker"}


def test_policies_select_the_workers(role):
    """By a label that their pods have."""
    selected = found("NetworkPolicy", "backtalk-workers")["spec"]["podSelector"]["matchLabels"]
    labels = found("Deployment", f"{role}-worker")["spec"]["template"]["metadata"]["labels"]
    assert selected.items() <= labels.items()


def test_the_simulation_scales_as_the_manifests_do(role):
    """Its defaults are the base's, so that docs/scaling.md is about what is deployed."""
    scaled = found("ScaledObject", f"{role}-worker")["spec"]
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    share, pods = behavior["scaleUp"]["policies"]
    (fewer,) = behavior["scaleDown"]["policies"]
    assert Scaling(least=1, most=200) == Scaling(
        least=scaled["minReplicaCount"],
        sync_seconds=scaled["pollingInterval"],
        up_share=share["value"] / 100,
        up_pods=pods["value"],
        down_share=fewer["value"] / 100,
        down_period_seconds=fewer["periodSeconds"],
        calm_seconds=behavior["scaleDown"]["stabilizationWindowSeconds"],
    )
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert {share["periodSeconds"], pods["periodSeconds"]} == {scaled["pollingInterval"]}
