"""What helm makes of the chart, as Python objects."""

import functools
import os
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/restpipe"
VALUES = pathlib.Path(__file__).resolve().parent / "values"
NAMESPACE = "restpipe-system"

# APIs of the Prometheus operator, which a helm without a cluster does not know of.
MONITORS = (
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
)

# Every way to render that is worth its own look: values file and release.
VARIANTS = {
    "default": (None, "restpipe"),
    "everything": ("everything", "restpipe"),
    "watched": ("watched", "restpipe"),
    "little": ("little", "restpipe"),
    "another release": (None, "other"),
    "numbers": ("numbers", "2024"),
}


class Refused(Exception):
    """helm ended with an error; its text."""


class StrictLoader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """YAML in which no key may be given twice: Kubernetes refuses that too."""


def _mapping(loader, node):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(
            None, None, f"keys given twice: {twice}", node.start_mark
        )
    values = [loader.construct_object(value, deep=True) for _, value in node.value]
    return dict(zip(keys, values, strict=True))


StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def documents(text):
    """The objects in `text`; empty documents are left out."""
    return [found for found in yaml.load_all(text, StrictLoader) if found is not None]


def helm(*arguments):
    """stdout of helm, or Refused."""
    done = subprocess.run(
        [os.environ["HELM"], *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


@functools.cache
def text(*sets, values=None, release="restpipe", namespace=NAMESPACE, apis=MONITORS):
    """The chart as rendered, hooks included. `sets` are for --set-json: "replicas=1"."""
    arguments = ["template", release, "charts/restpipe", "--namespace", namespace]
    arguments += ["--kube-version", "1.37.2"]
    arguments += [f"--api-versions={api}" for api in apis]
    if values:
        arguments += ["--values", str(VALUES / f"{values}.yaml")]
    for one in sets:
        arguments += ["--set-json", one]
    return helm(*arguments)


def render(*sets, **options):
    """The objects of the chart."""
    return documents(text(*sets, **options))


def variant(name):
    """The objects of one of VARIANTS."""
    values, release = VARIANTS[name]
    return render(values=values, release=release)


def notes(*sets, release="restpipe", namespace=NAMESPACE):
    """What `helm install` tells those who have installed."""
    arguments = [
        "install",
        release,
        "charts/restpipe",
        "--namespace",
        namespace,
        "--dry-run=client",
    ]
    for one in sets:
        arguments += ["--set-json", one]
    return helm(*arguments).split("\nNOTES:\n")[1]


def identity(found):
    """What makes an object one: kind, namespace, name."""
    metadata = found["metadata"]
    return found["kind"], metadata.get("namespace", ""), metadata["name"]


def of_kind(objects, kind):
    """Those of one kind, by name."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pods(objects):
    """All pods there are to be: (name, labels, annotations, spec)."""
    for found in objects:
        if found["kind"] == "Pod":
            template = found
        elif found["kind"] in ("Deployment", "Job"):
            template = found["spec"]["template"]
        else:
            continue
        metadata = template.get("metadata", {})
        yield (
            found["metadata"]["name"],
            metadata.get("labels", {}),
            metadata.get("annotations", {}),
            template["spec"],
        )


def is_hook(found):
    """Whether it is there only while `helm test` runs."""
    return "helm.sh/hook" in found["metadata"].get("annotations", {})
