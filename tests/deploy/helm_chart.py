"""The chart as Helm renders it."""

import functools
import pathlib
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy/chart/pregate"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
HELM = pathlib.Path(sys.executable).parent / "helm"  # of the package helm-binary
NAMESPACE = "llm"
RELEASE = "test"


class Refused(Exception):
    """What Helm says of values that it does not take."""


def helm(*words):
    """Standard output of a command; Refused when it fails."""
    run = subprocess.run([HELM, *map(str, words)], capture_output=True, text=True, timeout=60,
                         check=False)
    if run.returncode != 0:
        raise Refused(run.stderr + run.stdout)
    return run.stdout


@functools.cache
def _template_of_file(file, chart):
    return helm("template", RELEASE, chart, "--namespace", NAMESPACE, "--values", file)


def template(values=None, file=None, chart=CHART):
    """The manifests, as text. `values`: a dict, over those of `file`, over the chart's own."""
    if values is None and file is not None:
        return _template_of_file(file, chart)
    words = ["template", RELEASE, chart, "--namespace", NAMESPACE]
    if file is not None:
        words += ["--values", file]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as more:
        yaml.safe_dump(values or {}, more)
        more.flush()
        return helm(*words, "--values", more.name)


def render(values=None, file=None, chart=CHART):
    """The manifests, as dicts."""
    return [one for one in yaml.safe_load_all(template(values, file, chart)) if one]


def model(**values):
    """Values of a release with one model."""
    return {"models": [{"name": "m", "source": {"path": "/m.gguf"}, **values}]}


def of_kind(manifests, kind):
    """Those of a kind."""
    return [one for one in manifests if one["kind"] == kind]


def pods(manifests):
    """(name, pod's spec, its labels) of all that becomes a pod."""
    for one in manifests:
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]
            yield one["metadata"]["name"], pod["spec"], pod["metadata"]["labels"]
        elif one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"], one["metadata"]["labels"]


def containers(pod):
    """All of a pod's."""
    return pod.get("initContainers", []) + pod["containers"]


def server(pod):
    """The container that serves, or None."""
    return next((one for one in pod["containers"] if one["name"] == "pregate"), None)


def flags(container):
    """The flags on a server's command line."""
    return dict(word.removeprefix("--").split("=", 1) for word in container["args"] if "=" in word)
