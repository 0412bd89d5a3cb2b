"""Reads compose.yaml and k8s/ into what tests ask about: processes, their settings and files.

Objects are those of k8s/base, as its files say, unless others are given: `built` makes those of an
overlay with kustomize itself.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
MANIFESTS: Final = ROOT / "k8s"
BASE: Final = MANIFESTS / "base"
OVERLAYS: Final = MANIFESTS / "overlays"
KUSTOMIZATION: Final = "kustomization.yaml"
KEYS: Final = "/etc/pgben/keys/"
PROGRAM: Final = "pgben-tasks"

Doc = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Process:
    """One container: ``files`` maps what is mounted from secrets to the secret's name."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str]
    raw: Doc

    @property
    def ours(self) -> bool:
        """Whether it runs pgben itself."""
        return re.split("[:@]", self.image.rpartition("/")[2])[0] == PROGRAM

    @property
    def role(self) -> str:
        """What it is started as: backup, beat, …; empty for what ends by itself."""
        return self.command[3] if self.command[:3] == ("python", "-m", "workers") else ""

    @property
    def keys(self) -> set[str]:
        """The files of `pgben init` that it gets."""
        return {
            Path(path).name for path in self.files if Path(path).suffix in {".txt", ".json", ".pem"}
        }


@cache
def load(path: Path) -> list[Doc]:
    """Read every document of a file."""
    return documents(path.read_text(encoding="utf-8"))


def documents(several: str) -> list[Doc]:
    """Read YAML documents the way Kubernetes does (YAML 1.1); no key may stand twice."""
    documents = []
    for text in re.split(r"^---$", several, flags=re.MULTILINE):
        # One reader each: the version holds for the first document that a reader sees.
        yaml = YAML(typ="safe", pure=True)
        yaml.version = (1, 1)
        documents.append(yaml.load(text))
    return documents


def compose() -> Doc:
    """Read compose.yaml."""
    (doc,) = load(ROOT / "compose.yaml")
    return doc


def kustomization(folder: Path = BASE) -> Doc:
    """Read what a folder of k8s/ consists of."""
    (doc,) = load(folder / KUSTOMIZATION)
    return doc


def can_build() -> bool:
    """Return whether there is a kubectl that says which kustomize it has: older ones build less."""
    if shutil.which("kubectl") is None:
        return False
    said = subprocess.run(
        ["kubectl", "version", "--client"], capture_output=True, text=True, check=False, timeout=30
    )
    return "Kustomize Version" in said.stdout


def built(folder: Path) -> list[Doc]:
    """Return the objects of a kustomization as `kubectl apply -k` would send them."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return documents(done.stdout)


def objects(kind: str | None = None, docs: Sequence[Doc] | None = None) -> list[Doc]:
    """Return objects, of one kind or all."""
    if docs is None:
        docs = [doc for path in kubernetes_files() for doc in load(path)]
    return [doc for doc in docs if kind is None or doc["kind"] == kind]


def kubernetes_files(folder: Path = BASE) -> list[Path]:
    """Return the files with objects, or with what an overlay changes of them."""
    return sorted(path for path in folder.rglob("*.yaml") if path.name != KUSTOMIZATION)


def pod_template(workload: Doc) -> Doc:
    """Return what the pods of a workload are made from."""
    spec = workload["spec"]
    return (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]  # type: ignore[no-any-return]


def workloads(docs: Sequence[Doc] | None = None) -> dict[str, Doc]:
    """Return whatever has pods, by name."""
    found = objects(docs=docs)
    return {
        doc["metadata"]["name"]: doc
        for doc in found
        if {"template", "jobTemplate"} & set(doc.get("spec", {}))
    }


def compose_processes() -> dict[str, Process]:
    """Return the services of compose.yaml."""
    return {name: _from_service(name, service) for name, service in compose()["services"].items()}


def kubernetes_processes(docs: Sequence[Doc] | None = None) -> dict[str, Process]:
    """Return the containers under the names of their workloads, without `pgben-`."""
    (config,) = objects("ConfigMap", docs)
    return {
        name.removeprefix("pgben-"): _from_pod(name, pod_template(doc)["spec"], config["data"])
        for name, doc in workloads(docs).items()
    }


def script(process: Process) -> str:
    """Return the shell script that a process is started with."""
    text = process.command[-1]
    return text.replace("$$", "$") if "entrypoint" in process.raw else text


def _from_service(name: str, service: Doc) -> Process:
    files = {}
    for entry in service.get("secrets", []):
        source, target = (
            (entry, entry) if isinstance(entry, str) else (entry["source"], entry["target"])
        )
        files[target if target.startswith("/") else f"/run/secrets/{target}"] = source
    return Process(
        name=name,
        image=service["image"],
        command=(*service.get("entrypoint", ()), *service.get("command", ())),
        environment=dict(service.get("environment", {})),
        files=files,
        raw=service,
    )


def _from_pod(name: str, pod: Doc, config: Mapping[str, str]) -> Process:
    (container,) = pod["containers"]
    environment = dict(config) if "envFrom" in container else {}
    for entry in container.get("env", []):
        environment[entry["name"]] = entry.get("value", f"from:{name}")
    return Process(
        name=name,
        image=container["image"],
        command=tuple(container.get("command", ())),
        environment=environment,
        files=dict(_mounted(container, pod)),
        raw=container,
    )


def _mounted(container: Doc, pod: Doc) -> Iterator[tuple[str, str]]:
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for volume in pod["volumes"]:
        for item in volume.get("secret", {}).get("items", []):
            yield f"{places[volume['name']]}/{item['path']}", item["key"]


def shell_blocks(page: str) -> list[str]:
    """Return the commands of a page of docs/ that are written to be pasted, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```sh\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(one[2]) for one in found]


def commands(page: str) -> list[str]:
    """Return every command of a page of docs/, pasted, indented or within a sentence."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    starts = "(?:kubectl|docker|sh|echo|chown|kind) "
    return [
        *shell_blocks(page),
        *re.findall(rf"^ {{4,}}({starts}(?:.*\\\n)*.*)$", text, re.MULTILINE),
        *re.findall(rf"`({starts}[^`]*)`", text),
    ]
