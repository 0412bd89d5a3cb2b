"""The overlays of k8s/: what kustomize makes of them fits together, and the program."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.settings import Settings
from tests.support import manifests
from tests.support.manifests import BASE, KUSTOMIZATION, MANIFESTS, OVERLAYS, ROOT, Doc

BUILT = ["base", "overlays/external-servers", "overlays/production"]
PLACE = "registry.example.org:5000/team/pgben-tasks"
#: Stands for a registry's answer: a digest of the image's name.
DOCKER = """\
#!/bin/sh
for image; do :; done
case "$image" in
    *:absent) echo "ERROR: $image: not found" >&2; exit 1 ;;
    *:odd) echo "Name: $image" ;;
    *) printf 'sha256:%s\\n' "$(printf %s "$image" | sha256sum | cut -d' ' -f1)" ;;
esac
"""

Built = Callable[[str], list[Doc]]
#: Debian 12 has no package of such a kubectl, so that it is absent is never a failure.
kubectl = pytest.mark.skipif(
    not manifests.can_build(), reason="no kubectl whose kustomize is new enough (1.24)"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of k8s/ as the project has it, with nothing pinned."""
    return copied(tmp_path)


@pytest.fixture
def pinned(tree: Path) -> Path:
    """Return a copy of k8s/ whose images are pinned."""
    assert images(tree, "pin", f"{PLACE}:0.1.0").returncode == 0
    return tree


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Return what kustomize makes of a folder of k8s/, whose images are pinned."""
    tree = copied(tmp_path_factory.mktemp("site"))
    assert images(tree, "pin", f"{PLACE}:0.1.0").returncode == 0
    return cache(lambda folder: manifests.built(tree / folder))


def copied(folder: Path) -> Path:
    copy = folder / "k8s"
    shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("pinned-images*"))
    return copy


def images(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script that pins images, with a registry that knows every image."""
    programs = tree.parent / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "docker").write_text(DOCKER, encoding="utf-8")
    (programs / "docker").chmod(0o755)
    return subprocess.run(
        ["sh", "k8s/overlays/production/images.sh", *arguments],
        cwd=tree.parent,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


def named(docs: list[Doc]) -> set[tuple[str, str]]:
    return {(doc["kind"], doc["metadata"]["name"]) for doc in docs}


def policies(docs: list[Doc]) -> dict[str, Any]:
    return {
        one["metadata"]["name"]: one["spec"] for one in manifests.objects("NetworkPolicy", docs)
    }


def used_images(docs: list[Doc]) -> set[str]:
    specs = [manifests.pod_template(one)["spec"] for one in manifests.workloads(docs).values()]
    return {one["image"] for spec in specs for one in spec["containers"]}


def test_every_file_belongs_to_one_kustomization() -> None:
    listed: Counter[Path] = Counter()
    for path in MANIFESTS.rglob(KUSTOMIZATION):
        content = manifests.kustomization(path.parent)
        names = [*content.get("resources", [])]
        names += [one["path"] for one in content.get("patches", []) if "path" in one]
        listed.update((path.parent / name).resolve() for name in names)
    files = {path: count for path, count in listed.items() if path.suffix == ".yaml"}
    assert sorted(files) == manifests.kubernetes_files(MANIFESTS)
    assert set(files.values()) == {1}
    assert [path for path in listed if not path.exists()] == []


def test_every_kustomization_is_for_the_namespace_of_the_platform() -> None:
    for folder in (BASE, *OVERLAYS.iterdir()):
        assert manifests.kustomization(folder)["namespace"] == "pgben", folder.name


@kubectl
@pytest.mark.parametrize("overlay", BUILT)
def test_whatever_an_object_refers_to_is_there(overlay: str, built: Built) -> None:
    docs = built(overlay)
    there = named(docs)
    assert {doc["metadata"]["namespace"] for doc in docs} == {"pgben"}
    assert len(there) == len(docs)
    for name, workload in manifests.workloads(docs).items():
        spec = manifests.pod_template(workload)["spec"]
        (container,) = spec["containers"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in there, name
        for source in container.get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in there, name
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        claims = {
            one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])
        }
        assert mounts == {*volumes} | claims, name
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert ("PersistentVolumeClaim", claim) in there, name
        if workload["kind"] == "StatefulSet":
            assert ("Service", workload["spec"]["serviceName"]) in there, name
    accounts = {name for kind, name in there if kind == "ServiceAccount"}
    assert accounts == set(manifests.workloads(docs))
    for budget in manifests.objects("PodDisruptionBudget", docs):
        assert budget["metadata"]["name"] in accounts


@kubectl
@pytest.mark.parametrize("overlay", BUILT)
def test_only_platform_policies_select_pods_of_the_platform(overlay: str, built: Built) -> None:
    docs = built(overlay)
    labels = [
        manifests.pod_template(one)["metadata"]["labels"]
        for one in manifests.workloads(docs).values()
    ]
    for name, policy in policies(docs).items():
        wanted = policy["podSelector"].get("matchLabels", {}).items()
        either = policy["podSelector"].get("matchExpressions", [])
        assert wanted or either, f"{name} selects every pod of the namespace"
        assert any(wanted <= one.items() for one in labels), name
        for rule in either:
            assert set(rule["values"]) <= {one[rule["key"]] for one in labels}, name


@kubectl
@pytest.mark.parametrize("overlay", BUILT)
def test_the_settings_of_every_overlay_are_accepted(overlay: str, built: Built) -> None:
    (config,) = manifests.objects("ConfigMap", built(overlay))
    keys = {"PGBEN_REPOSITORY_ACCESS_KEY": "x", "PGBEN_REPOSITORY_SECRET_KEY": "x"}
    settings = Settings.load(config["data"] | keys)
    assert not settings.ignored
    assert not settings.retired
    # An overlay changes values of the base; it has no setting of its own.
    (base,) = manifests.objects("ConfigMap")
    assert config["data"].keys() == base["data"].keys()


@kubectl
def test_the_policies_of_the_platform_come_alone_and_only_admit(built: Built) -> None:
    found = policies(docs := built("overlays/platform-policies"))
    assert len(found) == len(docs)
    processes = manifests.kubernetes_processes().values()
    wanted = {
        "pgben-protected-postgres": ("postgres", "PGBEN_DB_PASS_FILE", 5432),
        "pgben-protected-minio": ("minio", "PGBEN_MINIO_SECRET_KEY_FILE", 9000),
    }
    assert set(found) == set(wanted)
    for name, (label, setting, port) in wanted.items():
        assert found[name]["podSelector"] == {"matchLabels": {"app": label}}
        assert found[name]["policyTypes"] == ["Ingress"]
        (rule,) = found[name]["ingress"]
        ((peer,), ports) = rule["from"], rule["ports"]
        ((values,),) = ([one["values"]] for one in peer["podSelector"]["matchExpressions"])
        assert set(values) == {one.name for one in processes if setting in one.environment}
        assert ports == [{"protocol": "TCP", "port": port}]
    assert not set(found) & set(policies(manifests.objects()))


@kubectl
def test_with_servers_elsewhere_the_own_ones_are_left_out_whole(built: Built) -> None:
    base, docs = built("base"), built("overlays/external-servers")
    gone = named(base) - named(docs)
    assert named(docs) < named(base)
    assert gone == {
        (kind, f"pgben-{name}")
        for name, workload in (("catalog", "StatefulSet"), ("repository", "Deployment"))
        for kind in (workload, "Service", "ServiceAccount", "NetworkPolicy")
    } | {("PersistentVolumeClaim", "pgben-backup-pvc")}
    assert re.findall("pgben-(?:catalog|repository|backup-pvc)", str(docs)) == []


@kubectl
def test_with_servers_elsewhere_who_uses_them_reaches_them(built: Built) -> None:
    docs = built("overlays/external-servers")
    (config,) = manifests.objects("ConfigMap", docs)
    assert config["data"]["PGBEN_REPOSITORY_ENDPOINT"].startswith("https://")
    outward = policies(docs)["pgben-to-stores"]
    before = policies(manifests.objects())["pgben-to-stores"]
    assert outward["podSelector"] == before["podSelector"]
    assert [rule["ports"][0]["port"] for rule in outward["egress"]] == [443, 5432]


@kubectl
def test_production_is_not_built_before_its_images_are_pinned(tree: Path) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(tree / "overlays" / "production")],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert "pinned-images" in done.stderr
    checked = images(tree, "check")
    assert checked.returncode == 1
    assert checked.stderr == (
        "error: the images are not pinned\n"
        "HINT: sh k8s/overlays/production/images.sh pin REGISTRY/pgben-tasks:VERSION\n"
    )


@kubectl
@pytest.mark.parametrize("below", ["base", "overlays/external-servers"])
def test_pinned_images_have_digests_of_the_registry(below: str, pinned: Path, built: Built) -> None:
    file = pinned / "overlays" / "production" / KUSTOMIZATION
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("../../base", f"../../{below}"), encoding="utf-8")
    wanted = set()
    for image in used_images(built(below)):
        asked = f"{PLACE}:0.1.0" if image.startswith("pgben-tasks:") else image
        digest = hashlib.sha256(asked.encode()).hexdigest()
        wanted.add(f"{asked.rpartition(':')[0]}@sha256:{digest}")

    done = images(pinned, "check")

    assert (done.returncode, done.stdout.split()) == (0, sorted(wanted))


@kubectl
@pytest.mark.parametrize("version", [":0.1.0", "", f"@sha256:{'0' * 64}"])
def test_a_place_is_told_from_the_version_behind_it(version: str, tree: Path) -> None:
    digest = hashlib.sha256(f"{PLACE}{version}".encode()).hexdigest()
    done = images(tree, "pin", f"{PLACE}{version}")
    assert done.returncode == 0
    assert f"{PLACE}@sha256:{digest}" in done.stdout.split()


@kubectl
def test_a_tag_in_production_is_refused(pinned: Path) -> None:
    file = pinned / "overlays" / "production" / "pinned-images" / KUSTOMIZATION
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(name: redis\n.*\n    )digest: .*", r"\1newTag: '8'", text), "utf-8")

    done = images(pinned, "check")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: images without a digest: redis:8\nHINT: ")


@kubectl
@pytest.mark.parametrize(
    ("image", "said"),
    [
        (f"{PLACE}:absent", f"error: no registry answered for the image '{PLACE}:absent'"),
        (f"{PLACE}:odd", "is no digest: 'Name: "),
    ],
)
def test_an_image_without_a_digest_leaves_the_pins_as_they_were(
    image: str, said: str, pinned: Path
) -> None:
    folder = pinned / "overlays" / "production"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    done = images(pinned, "pin", image)

    assert done.returncode == 1
    assert said in done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_wrong_usage_of_the_script_is_said(tree: Path) -> None:
    for arguments in ([], ["pin"], ["check", "x"], ["unpin", "x"]):
        done = images(tree, *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: wrong usage of ")


@kubectl
def test_production_has_two_of_what_a_lost_machine_would_stop(built: Built) -> None:
    docs = built("overlays/production")
    found = {
        name: one["spec"]["replicas"]
        for name, one in manifests.workloads(docs).items()
        if one["spec"].get("replicas", 1) > 1
    }
    assert found == {"pgben-backup": 2, "pgben-restore": 2, "pgben-verify": 2}
    for name in found:
        assert (
            "topologySpreadConstraints"
            in manifests.workloads(docs)[name]["spec"]["template"]["spec"]
        )
    assert used_images(docs) == {one for one in used_images(docs) if "@sha256:" in one}


@kubectl
def test_in_production_mails_leave_at_the_port_of_the_mail_server(built: Built) -> None:
    docs = built("overlays/production")
    (config,) = manifests.objects("ConfigMap", docs)
    policy = policies(docs)["pgben-to-mail"]
    (sender,) = policy["podSelector"]["matchLabels"].values()
    process = manifests.kubernetes_processes(docs)[sender.removeprefix("pgben-")]
    assert "PGBEN_SMTP_PASS_FILE" in process.environment
    ((rule,),) = (policy["egress"],)
    assert [str(one["port"]) for one in rule["ports"]] == [config["data"]["PGBEN_SMTP_PORT"]]


@kubectl
def test_production_fits_the_schemas_of_kubernetes(pinned: Path, tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    version = re.search(r"^KUBERNETES := (\S+)$", makefile, re.MULTILINE)
    assert version is not None
    file = tmp_path / "production.yaml"
    with file.open("wb") as out:
        subprocess.run(
            ["kubectl", "kustomize", str(pinned / "overlays" / "production")],
            check=True,
            stdout=out,
            timeout=30,
        )
    subprocess.run(
        [
            str(Path(sys.executable).with_name("kubernetes-validate")),
            *("--quiet", "--strict", "--kubernetes-version", version[1], str(file)),
        ],
        check=True,
        timeout=60,
    )
