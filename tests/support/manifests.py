"""Reads compose.yaml and k8s/ into what tests ask about: processes, their settings and files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
KUSTOMIZATION: Final = ROOT / "k8s" / "kustomization.yaml"
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
        return self.image.partition(":")[0] == PROGRAM

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
    """Read every document of a file the way Kubernetes does (YAML 1.1); no key may stand twice."""
    documents = []
    for text in re.split(r"^---$", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        # One reader each: the version holds for the first document that a reader sees.
        yaml = YAML(typ="safe", pure=True)
        yaml.version = (1, 1)
        documents.append(yaml.load(text))
    return documents


def compose() -> Doc:
    """Read compose.yaml."""
    (doc,) = load(ROOT / "compose.yaml")
    return doc


def kustomization() -> Doc:
    """Read k8s/kustomization.yaml."""
    (doc,) = load(KUSTOMIZATION)
    return doc


def objects(kind: str | None = None) -> list[Doc]:
    """Return the objects of k8s/, of one kind or all."""
    docs = [doc for path in kubernetes_files() for doc in load(path)]
    return [doc for doc in docs if kind is None or doc["kind"] == kind]


def kubernetes_files() -> list[Path]:
    """Return the files with objects."""
    return sorted(set((ROOT / "k8s").glob("*.yaml")) - {KUSTOMIZATION})


def workloads() -> dict[str, Doc]:
    """Return whatever has pods, by name."""
    return {doc["metadata"]["name"]: doc for doc in objects() if "template" in doc.get("spec", {})}


def compose_processes() -> dict[str, Process]:
    """Return the services of compose.yaml."""
    return {name: _from_service(name, service) for name, service in compose()["services"].items()}


def kubernetes_processes() -> dict[str, Process]:
    """Return the containers of k8s/ under the names of their workloads, without `pgben-`."""
    (config,) = objects("ConfigMap")
    return {
        name.removeprefix("pgben-"): _from_pod(
            name, doc["spec"]["template"]["spec"], config["data"]
        )
        for name, doc in workloads().items()
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


def secrets_block() -> str:
    """Return the first commands of docs/deployment.md: those that make the secrets."""
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    found = re.search(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]
