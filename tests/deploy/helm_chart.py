"""The chart as Helm renders it."""

import functools
import pathlib
import shutil
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


def template(values=None, file=None, chart=CHART, release=RELEASE, namespace=NAMESPACE):
    """The manifests, as text. `values`: a dict, over those of `file`, over the chart's own."""
    if values is None and file is not None and (release, namespace) == (RELEASE, NAMESPACE):
        return _template_of_file(file, chart)
    words = ["template", release, chart, "--namespace", namespace]
    if file is not None:
        words += ["--values", file]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as more:
        yaml.safe_dump(values or {}, more)
        more.flush()
        return helm(*words, "--values", more.name)


def render(*args, **kwargs):
    """The manifests of `template`, as dicts."""
    return [one for one in yaml.safe_load_all(template(*args, **kwargs)) if one]


@functools.cache
def _notes_chart():
    """A copy of the chart that also shows its NOTES.txt, as a manifest."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pregate-notes-")) / "pregate"
    shutil.copytree(CHART, folder)
    (folder / "templates/shown.yaml").write_text(
        "kind: Notes\nmetadata: {name: notes}\n"
        'text: {{ include "pregate/templates/NOTES.txt" . | quote }}\n', encoding="utf-8")
    return folder


def notes(values=None, file=None):
    """What Helm prints after an installation."""
    shown, = of_kind(render(values, file, _notes_chart()), "Notes")
    return shown["text"]


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
