"""Dockerfile, compose.yaml and k8s/ fit the program: settings, files, commands, keys, names."""

from __future__ import annotations

import re
import subprocess
import tomllib
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from pgben_tasks import names
from pgben_tasks.adapters.keys import key_set
from pgben_tasks.app import SOFT_SHUTDOWN
from pgben_tasks.cli.main import app
from pgben_tasks.settings import Settings
from pgben_tasks.settings.model import is_secret
from pgben_tasks.setup.initialise import lines
from tests.support import manifests
from tests.support.manifests import KEYS, ROOT, Process
from tests.support.needs import needs
from tests.support.samples import RECIPIENT
from workers.__main__ import ROLES, command
from workers.metrics import PORT

BOTH = [manifests.compose_processes(), manifests.kubernetes_processes()]
PLACES = ["compose", "k8s"]
OURS = [one for processes in BOTH for one in processes.values() if one.ours]
#: What a worker holds beside the trusted keys (docs/operations.md, "who holds what").
IDENTITIES = {
    "backup": {key_set.INVENTORY_IDENTITY},
    "restore": {key_set.INVENTORY_IDENTITY, key_set.OPERATIONS_IDENTITY},
    "verify": set[str](),
    "maintenance": set[str](),
}
SETTING = re.compile(r"\bPGBEN_[A-Z0-9_]+\b")
SECRETS = {f"PGBEN_{field.upper()}" for field in Settings.model_fields if is_secret(field)}
KNOWN = {f"PGBEN_{field.upper()}" for field in Settings.model_fields} | {
    f"{name}_FILE" for name in SECRETS
}
#: Those of docs/deployment.md that are written to be pasted.
SECRETS_BLOCK, *_SYSTEMD, SECRET_COMMAND = manifests.shell_blocks("deployment.md")
URLS = {
    "redis_url": "redis://:x@redis:6379/0",
    "catalog_url": "postgresql://pgben:x@catalog:5432/pgben_catalog",
    "console_catalog_url": "postgresql://pgben_console:x@catalog:5432/pgben_catalog",
    "alert_urls": "json://u:x@chat/x",
    "heartbeat_url": "https://hc.example.org/x/{kind}",
}

both = pytest.mark.parametrize("processes", BOTH, ids=PLACES)
ours = pytest.mark.parametrize("process", OURS, ids=lambda one: one.name)


def sources() -> list[Path]:
    return [
        ROOT / "Dockerfile",
        ROOT / "compose.yaml",
        *manifests.kubernetes_files(manifests.MANIFESTS),
    ]


def written_as(path: Path) -> str:
    return str(path.relative_to(ROOT))


def workers(processes: dict[str, Process]) -> dict[str, Process]:
    return {one.role: one for one in processes.values() if one.ours and one.role in ROLES}


def pods() -> dict[str, dict[str, Any]]:
    return {name: manifests.pod_template(doc) for name, doc in manifests.workloads().items()}


def matched(selector: dict[str, Any]) -> set[str]:
    """Return the workloads that a selector names by ``app.kubernetes.io/name``."""
    label = "app.kubernetes.io/name"
    by_list = [one["values"] for one in selector.get("matchExpressions", [])]
    by_name = selector.get("matchLabels", {}).get(label)
    return {name for values in by_list for name in values} | ({by_name} if by_name else set())


@pytest.mark.parametrize("path", sources(), ids=written_as)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    assert set(SETTING.findall(path.read_text(encoding="utf-8"))) <= KNOWN


def settings_of(process: Process, folder: Path, *, buckets: bool = True) -> Settings:
    """Read the settings of a process as it does, with files of secrets that say 'x'."""
    environment = {}
    for name, value in process.environment.items():
        if name.removesuffix("_FILE") in SECRETS:
            copy = folder / name
            empty = not buckets and "MINIO" in name
            copy.write_text("" if empty else URLS.get(Path(value).name, "x"), encoding="utf-8")
            environment[name] = str(copy)
        elif value.startswith("from:"):
            environment[name] = RECIPIENT if name == "PGBEN_AGE_RECIPIENTS" else "pgben-x-0"
        else:
            # Compose's own variables, and their defaults.
            environment[name] = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)

    return Settings.load(
        {name: value for name, value in environment.items() if name.startswith("PGBEN_")}
    )


@ours
def test_the_settings_of_every_process_are_accepted(process: Process, tmp_path: Path) -> None:
    settings_of(process, tmp_path)


@both
def test_who_decides_knows_of_buckets_and_who_moves_objects_has_their_keys(
    processes: dict[str, Process], tmp_path: Path
) -> None:
    mine = {one.role: settings_of(one, tmp_path) for one in processes.values() if one.role}
    knowing = {role for role, settings in mine.items() if settings.bucket_targets()}
    assert knowing == {"backup", "restore", "verify", "maintenance", "beat", "flower", "metrics"}
    secret = {role for role, settings in mine.items() if settings.minio_secret_key is not None}
    assert secret == {"backup", "restore"}


@both
def test_commands_around_a_swap_reach_the_workers_that_swap(
    processes: dict[str, Process], tmp_path: Path
) -> None:
    restore = workers(processes)["restore"]
    assert {"PGBEN_BEFORE_SWAP", "PGBEN_AFTER_SWAP"} <= set(restore.environment)
    # None is set before somebody sets one.
    settings = settings_of(restore, tmp_path)
    assert (settings.before_swap, settings.after_swap) == (None, None)


@ours
def test_an_installation_without_buckets_has_empty_files_of_keys(
    process: Process, tmp_path: Path
) -> None:
    assert settings_of(process, tmp_path, buckets=False).bucket_targets() == ()


@both
def test_every_file_that_a_setting_names_is_mounted(processes: dict[str, Process]) -> None:
    for one in processes.values():
        named = {value for name, value in one.environment.items() if name.endswith("_FILE")}
        named |= {part.partition("=")[2] for part in one.command if part.startswith("--conf=")}
        assert named <= set(one.files), one.name
        mentioned = re.findall(r"/run/secrets/[\w./-]+", " ".join(one.command))
        assert {path for path in mentioned if not path.endswith("/pgben")} <= set(one.files)


@pytest.mark.parametrize("path", sources(), ids=written_as)
def test_no_secret_stands_in_a_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"://[^\s/@]*:[^\s/@]+@", text) == []
    assert "AGE-SECRET-KEY" not in text
    assert "PRIVATE KEY" not in text


@both
def test_secrets_come_from_files_only(processes: dict[str, Process]) -> None:
    for one in processes.values():
        assert set(one.environment) & SECRETS == set(), one.name
        wordy = [name for name in one.environment if re.search("PASS|SECRET|TOKEN", name)]
        assert [name for name in wordy if not name.endswith("_FILE")] == [], one.name
    assert manifests.objects("Secret") == []


@both
def test_every_role_runs_and_every_queue_is_consumed(processes: dict[str, Process]) -> None:
    started = {one.role for one in processes.values() if one.ours} - {""}
    assert started == set(ROLES) - {"all"} | {"beat", "flower", "metrics"}
    assert {queue for role in workers(processes) for queue in ROLES[role][0]} == set(names.QUEUES)


@ours
def test_the_command_of_every_process_is_one_of_ours(process: Process) -> None:
    if process.role:
        assert command(process.role, list(process.command[4:]))
        return
    line = process.command if process.command[0] == "pgben" else script_line(process, "pgben")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {option for one in commands[line[1]].params for option in one.opts}
    assert {part for part in line if part.startswith("--")} <= options


def script_line(process: Process, program: str) -> tuple[str, ...]:
    lines = [line.split() for line in manifests.script(process).splitlines()]
    (found,) = [line for line in lines if line[0] == program]
    return tuple(found)


@both
def test_a_worker_holds_the_keys_of_its_role_and_no_others(processes: dict[str, Process]) -> None:
    for role, one in workers(processes).items():
        signing = f"signing-key-{role}.pem"
        assert one.keys == {key_set.TRUSTED_KEYS, signing} | IDENTITIES[role]
    others = [one for one in processes.values() if one.ours and one.role not in ROLES]
    public = {key_set.TRUSTED_KEYS, key_set.RECIPIENTS}
    assert [one.name for one in others if not one.keys <= public] == []


@both
def test_the_escrow_identity_is_nowhere(processes: dict[str, Process]) -> None:
    assert [one.name for one in processes.values() if key_set.ESCROW_IDENTITY in one.keys] == []


def test_in_kubernetes_settings_name_the_keys_that_are_mounted() -> None:
    settings = {
        "PGBEN_AGE_IDENTITY_FILE": key_set.OPERATIONS_IDENTITY,
        "PGBEN_INVENTORY_IDENTITY_FILE": key_set.INVENTORY_IDENTITY,
        "PGBEN_TRUSTED_KEYS_FILE": key_set.TRUSTED_KEYS,
    }
    for role, one in workers(manifests.kubernetes_processes()).items():
        named = {
            name: Path(value).name
            for name, value in one.environment.items()
            if name in settings or name == "PGBEN_SIGNING_KEY_FILE"
        }
        wanted = {name: key for name, key in settings.items() if key in one.keys}
        assert named == {**wanted, "PGBEN_SIGNING_KEY_FILE": f"signing-key-{role}.pem"}


def test_in_compose_keys_are_where_init_says_they_are() -> None:
    processes = manifests.compose_processes()
    init = processes["init"]
    assert f"{init.command[init.command.index('--keys') + 1]}/" == KEYS
    assert [mount["target"] + "/" for mount in init.raw["volumes"]] == [KEYS]
    for role, one in workers(processes).items():
        assert [file["path"] for file in one.raw["env_file"]] == [f"secrets/keys/pgben-{role}.env"]
        assert {path for path in one.files if Path(path).name in one.keys} == {
            KEYS + key for key in one.keys
        }


def test_every_secret_of_compose_has_its_file_and_its_use() -> None:
    declared = manifests.compose()["secrets"]
    used = {name for one in manifests.compose_processes().values() for name in one.files.values()}
    assert used == set(declared)
    assert {Path(one["file"]).parts[0] for one in declared.values()} == {"secrets"}


@needs("openssl")
def test_the_documented_commands_make_every_secret(tmp_path: Path) -> None:
    made = tmp_path / "secrets"
    for _ in range(2):
        before = {path.name: path.read_bytes() for path in made.glob("*") if path.is_file()}
        pasted(SECRETS_BLOCK, tmp_path)
        after = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
        assert not before or before == after
    files = {Path(one["file"]) for one in manifests.compose()["secrets"].values()}
    assert {path.name for path in files if path.parent.name == "secrets"} == set(after)
    assert [path for path in made.rglob("*") if path.stat().st_mode & 0o077] == []


@needs("openssl", "kubectl")
def test_one_documented_command_makes_the_secret_of_kubernetes(tmp_path: Path) -> None:
    pasted(SECRETS_BLOCK, tmp_path)
    keys = tmp_path / "secrets" / "keys"
    made, _ = key_set.read_or_make(keys, roles="separate", now=datetime.now(UTC))
    recipients = ",".join(made.recipients.values())
    (keys / "pgben-backup.env").write_text(lines({"PGBEN_AGE_RECIPIENTS": recipients}), "utf-8")
    command, _, applied = SECRET_COMMAND.partition("\\\n    | ")
    # Again for every change; and no copy of the secrets in an annotation that anybody is shown.
    assert applied == "kubectl apply --server-side --force-conflicts --filename=-\n"

    (secret,) = manifests.documents(pasted(command, tmp_path))

    content = {key: b64decode(value) for key, value in secret["data"].items()}
    mounted = {
        key for one in manifests.kubernetes_processes().values() for key in one.files.values()
    }
    assert (secret["kind"], secret["metadata"]["name"]) == ("Secret", "pgben-secrets")
    assert set(content) == mounted | {"age_recipients"}
    assert content["age_recipients"].decode() == recipients
    for key in mounted - {"age_recipients"}:
        (file,) = (path for path in (tmp_path / "secrets").rglob(key) if path.is_file())
        assert content[key] == file.read_bytes()


def test_the_page_in_portuguese_has_the_same_commands() -> None:
    # Comments are translated, spaces and lines do not matter.
    english, portuguese = (
        [" ".join(re.sub(r" #.*", "", one).split()) for one in manifests.commands(page)]
        for page in ("deployment.md", "pt_BR/implantacao.md")
    )
    assert len(english) > 20
    assert sorted(portuguese) == sorted(english)


def pasted(commands: str, folder: Path) -> str:
    """Run commands of the documentation as a shell would; return what they say."""
    return subprocess.run(
        ["sh", "-euc", commands],
        cwd=folder,
        check=True,
        timeout=30,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_secrets_are_kept_out_of_git_and_of_the_image() -> None:
    assert {"/secrets/", "/.env"} <= set((ROOT / ".gitignore").read_text("utf-8").split())
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert next(line for line in rules if not line.startswith("#")) == "*"


def test_what_the_dockerfile_copies_exists_and_reaches_the_builder() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    copied = {name.rstrip("/") for line in lines for name in line.split()}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    reaching = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert {rule for rule in reaching for name in copied if below(name, rule)} == reaching
    assert [name for name in copied if not any(below(name, rule) for rule in reaching)] == []
    assert [name for name in copied if not (ROOT / name).exists()] == []


def below(path: str, rule: str) -> bool:
    return Path(path).is_relative_to(rule)


def test_compose_builds_stages_and_arguments_that_the_dockerfile_has() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    arguments = set(re.findall(r"^ARG (\w+)=", text, re.MULTILINE))
    assert stages[-1] == "pgben"
    for service in manifests.compose()["services"].values():
        build = service.get("build", {})
        assert build.get("target", "pgben") in stages
        assert set(build.get("args", {})) <= arguments


def test_images_carry_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    image = f"{manifests.PROGRAM}:{project['version']}"
    assert {one.image for one in BOTH[0].values() if one.ours} == {image}
    (tag,) = manifests.kustomization()["images"]
    assert f"{tag['name']}:{tag['newTag']}" == image


def test_objects_have_the_names_of_the_old_manifests() -> None:
    claims = manifests.objects("PersistentVolumeClaim")
    (claim,) = [one for one in claims if one["metadata"]["name"] != "pgben-history"]
    (config,) = manifests.objects("ConfigMap")
    assert claim["metadata"]["name"] == "pgben-backup-pvc"
    assert config["metadata"]["name"] == "pgben-config"
    volumes = [volume for pod in pods().values() for volume in pod["spec"]["volumes"]]
    assert {one["secret"]["secretName"] for one in volumes if "secret" in one} == {"pgben-secrets"}
    # The namespace is the platform's: whoever removes pgben must not remove it.
    assert manifests.objects("Namespace") == []


@pytest.mark.parametrize("name", sorted(pods()))
def test_every_pod_is_closed(name: str) -> None:
    spec = pods()[name]["spec"]
    (container,) = spec["containers"]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == name
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    # What others may read is refused by the program.
    modes = {one["secret"]["defaultMode"] for one in spec["volumes"] if "secret" in one}
    assert modes == {0o440}
    assert "fsGroup" in spec["securityContext"]


def test_every_account_is_of_one_pod_and_may_do_nothing() -> None:
    accounts = manifests.objects("ServiceAccount")
    assert sorted(one["metadata"]["name"] for one in accounts) == sorted(pods())
    assert {one["automountServiceAccountToken"] for one in accounts} == {False}
    kinds = {one["kind"] for one in manifests.objects()}
    assert [kind for kind in kinds if kind.endswith(("Role", "RoleBinding"))] == []


def test_every_pod_of_ours_runs_as_the_user_of_the_image() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (user,) = set(re.findall(r"^ARG RUN_AS=(\d+)$", text, re.MULTILINE))
    processes = manifests.kubernetes_processes()
    mine = [f"pgben-{name}" for name, one in processes.items() if one.ours]
    assert {pods()[name]["spec"]["securityContext"]["runAsUser"] for name in mine} == {int(user)}


@ours
def test_a_process_in_compose_is_closed(process: Process) -> None:
    if process.name.startswith("pgben-"):
        return
    assert process.raw["read_only"] is True
    assert process.raw["cap_drop"] == ["ALL"]
    assert "user" not in process.raw


@both
def test_readiness_asks_for_the_heartbeat_and_nothing_asks_for_liveness(
    processes: dict[str, Process],
) -> None:
    for role, one in workers(processes).items():
        asked = ["python", "-m", "workers.ready", role]
        if "healthcheck" in one.raw:
            assert one.raw["healthcheck"]["test"] == ["CMD", *asked]
        else:
            assert one.raw["readinessProbe"]["exec"]["command"] == asked
            assert one.raw["startupProbe"]["exec"]["command"] == asked
        assert "livenessProbe" not in one.raw


def test_whatever_is_asked_has_time_to_start() -> None:
    for name, pod in pods().items():
        (container,) = pod["spec"]["containers"]
        asked = {kind for kind in ("readinessProbe", "livenessProbe") if kind in container}
        assert ("startupProbe" in container) == bool(asked), name
        if asked:
            start = container["startupProbe"]
            # A worker may wait a minute for its name alone (workers/presence.py).
            assert start["periodSeconds"] * start["failureThreshold"] >= 5 * 60, name
    for name, service in manifests.compose()["services"].items():
        assert "start_period" in service.get("healthcheck", {"start_period": ""}), name


def test_workers_are_spread_over_machines_and_zones_and_never_wait_for_it() -> None:
    for role in workers(BOTH[1]):
        spec = pods()[f"pgben-{role}"]["spec"]
        rules = {one["topologyKey"]: one for one in spec["topologySpreadConstraints"]}
        assert set(rules) == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for rule in rules.values():
            assert (rule["maxSkew"], rule["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
            assert matched(rule["labelSelector"]) == {f"pgben-{role}"}


def test_a_worker_gets_more_time_to_stop_than_its_soft_shutdown_takes() -> None:
    for one in workers(BOTH[0]).values():
        minutes = re.fullmatch(r"(\d+)m", one.raw["stop_grace_period"])
        assert minutes is not None
        assert timedelta(minutes=int(minutes[1])) > SOFT_SHUTDOWN
    for role in workers(BOTH[1]):
        seconds = pods()[f"pgben-{role}"]["spec"]["terminationGracePeriodSeconds"]
        assert timedelta(seconds=seconds) > SOFT_SHUTDOWN


def test_workers_with_spools_keep_them_and_no_two_share_one() -> None:
    mounts = [tuple(one.raw["volumes"]) for one in workers(BOTH[0]).values()]
    nodes = [one.environment["PGBEN_NODE"] for one in workers(BOTH[0]).values()]
    assert len(set(mounts)) == len(set(nodes)) == len(nodes)
    for role in ("backup", "restore"):
        found = manifests.workloads()[f"pgben-{role}"]
        assert found["kind"] == "StatefulSet"
        assert [one["metadata"]["name"] for one in found["spec"]["volumeClaimTemplates"]] == [
            "state"
        ]
    for one in workers(BOTH[1]).values():
        (node,) = [entry for entry in one.raw["env"] if entry["name"] == "PGBEN_NODE"]
        assert node["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


@pytest.mark.parametrize("processes", BOTH, ids=PLACES)
def test_what_a_process_writes_to_is_a_volume(processes: dict[str, Process]) -> None:
    for one in workers(processes).values():
        mounts = one.raw.get("volumeMounts")
        places = (
            {mount["mountPath"] for mount in mounts}
            if mounts
            else {mount.partition(":")[2] for mount in one.raw["volumes"]}
        )
        assert str(Path(one.environment["PGBEN_SPOOL_DIR"]).parent) in places
        # The history is written by one process.
        for setting in ("PGBEN_BACKUP_DIR", "PGBEN_MINIO_BACKUP_DIR"):
            kept = str(Path(one.environment[setting]).parent) in places
            assert kept == (one.role == "maintenance"), one.name


def test_the_history_outlives_its_worker_and_belongs_to_the_user_of_the_image() -> None:
    compose = manifests.compose()
    mounts = compose["services"]["maintenance"]["volumes"]
    (history,) = [one.partition(":")[0] for one in mounts if one.endswith(":/backup")]
    assert history in compose["volumes"]
    pod = pods()["pgben-maintenance"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "history"]
    assert volume["persistentVolumeClaim"]["claimName"] == "pgben-history"
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
    # A volume that one machine has at a time is waited for by the next pod.
    deployment = manifests.workloads()["pgben-maintenance"]["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}
    # A new volume of compose gets owner and mode from the image's folder.
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert 'install -d -m 0750 -o "$RUN_AS" -g "$RUN_AS" /backup\n' in image


def test_beat_is_one_and_flower_is_reached_from_inside_only() -> None:
    beat = manifests.workloads()["pgben-beat"]["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})
    kinds = {doc["spec"].get("type", "ClusterIP") for doc in manifests.objects("Service")}
    assert kinds == {"ClusterIP"}
    assert manifests.objects("Ingress") == []
    ports = {name: one.raw["ports"] for name, one in BOTH[0].items() if "ports" in one.raw}
    assert ports == {
        "flower": ["127.0.0.1:5555:5555"],
        "metrics": [f"127.0.0.1:{PORT}:{PORT}"],
    }
    # In a container its loopback is reached by nobody.
    lines = {one[name].command[4:] for one in BOTH for name in ports}
    assert lines == {("--address=0.0.0.0",)}


@both
def test_the_console_has_users_and_a_login_of_its_own_and_no_secret_of_what_is_protected(
    processes: dict[str, Process],
) -> None:
    console, init = processes["flower"], processes["init"]
    settings = {name: value for name, value in console.environment.items() if "_FILE" in name}
    files = {name: console.files[value] for name, value in settings.items()}
    assert files == {
        "PGBEN_REDIS_URL_FILE": "redis_url",
        "PGBEN_CATALOG_URL_FILE": "console_catalog_url",
        "PGBEN_CONSOLE_USERS_FILE": "console_users",
        # That there are buckets; the secret key is not there.
        "PGBEN_MINIO_ACCESS_KEY_FILE": "minio_access_key",
    }
    assert sorted(console.files.values()) == sorted(files.values())
    users = [one.name for one in processes.values() if "console_users" in one.files.values()]
    assert users == [console.name]
    # `init` makes that login from the same file.
    line = init.command if init.command[0] == "pgben" else script_line(init, "pgben")
    assert init.files[line[line.index("--console-login") + 1]] == "console_catalog_url"
    # Orchestrators ask without a login.
    asked = str(console.raw.get("healthcheck") or console.raw["readinessProbe"])
    assert "/healthcheck" in asked


@both
def test_the_exporter_has_the_login_that_only_reads_and_is_asked_for_its_life(
    processes: dict[str, Process],
) -> None:
    exporter = processes["metrics"]
    assert sorted(exporter.files.values()) == [
        "console_catalog_url",
        "minio_access_key",
        "redis_url",
    ]
    assert "/healthz" in str(exporter.raw.get("healthcheck") or exporter.raw["readinessProbe"])


@both
def test_the_check_has_keys_that_read_and_nothing_else(processes: dict[str, Process]) -> None:
    check = processes["check"]
    assert check.command[:2] == ("pgben", "check")
    assert sorted(Path(one).name for one in check.files.values()) == sorted(
        [
            "minio_access_key",
            "s3_read_access_key",
            "s3_read_secret_key",
            "trusted_keys" if "profiles" in check.raw else "trusted-keys.json",
        ]
    )
    named = {name for name in check.environment if name.endswith("_FILE")}
    assert named == {
        "PGBEN_MINIO_ACCESS_KEY_FILE",
        "PGBEN_REPOSITORY_ACCESS_KEY_FILE",
        "PGBEN_REPOSITORY_SECRET_KEY_FILE",
        "PGBEN_TRUSTED_KEYS_FILE",
    }


def test_a_check_that_is_not_well_is_a_job_that_failed() -> None:
    check = manifests.workloads()["pgben-check"]["spec"]
    job = check["jobTemplate"]["spec"]
    pod = manifests.pod_template(manifests.workloads()["pgben-check"])["spec"]
    (container,) = pod["containers"]
    timeout = int(container["command"][container["command"].index("--timeout") + 1])
    # Nothing tries it again until it is green, and what failed stays to be looked at.
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert check["failedJobsHistoryLimit"] > 1
    assert check["concurrencyPolicy"] == "Forbid"
    assert job["activeDeadlineSeconds"] > timeout


def test_compose_does_not_start_the_check_with_everything_else() -> None:
    service = manifests.compose()["services"]["check"]
    assert (service["profiles"], service["restart"]) == (["check"], "no")


def test_the_queue_forgets_nothing() -> None:
    for processes in BOTH:
        text = manifests.script(processes["redis"])
        for flags in (
            "--appendonly yes",
            "--appendfsync everysec",
            "--maxmemory-policy noeviction",
        ):
            assert flags in text


def test_nothing_is_reached_but_what_a_pod_needs() -> None:
    policies = {doc["metadata"]["name"]: doc["spec"] for doc in manifests.objects("NetworkPolicy")}
    everything = policies.pop("pgben-nothing")
    assert everything["policyTypes"] == ["Ingress", "Egress"]
    assert {"ingress", "egress"} & set(everything) == set()
    (label,) = everything["podSelector"]["matchLabels"].items()
    assert [
        name for name, pod in pods().items() if label not in pod["metadata"]["labels"].items()
    ] == []
    uses = {
        "pgben-redis": "PGBEN_REDIS_URL_FILE",
        "pgben-catalog": "PGBEN_CATALOG_URL_FILE",
        "pgben-repository": "PGBEN_REPOSITORY_ACCESS_KEY_FILE",
    }
    processes = manifests.kubernetes_processes().values()
    for server, setting in uses.items():
        users = {one.name for one in processes if setting in one.environment}
        (rule,) = policies[server]["ingress"]
        (peer,) = rule["from"]
        assert matched(policies[server]["podSelector"]) == {server}
        assert matched(peer["podSelector"]) == users
        assert reaching(policies.values(), server, rule["ports"]) == users
    protected = (
        ("pgben-to-protected", "PGBEN_DB_PASS_FILE", 5432),
        ("pgben-to-buckets", "PGBEN_MINIO_SECRET_KEY_FILE", 9000),
    )
    for outward, setting, port in protected:
        assert matched(policies[outward]["podSelector"]) == {
            one.name for one in processes if setting in one.environment
        }
        # Pods of this namespace, whatever their labels are.
        assert policies[outward]["egress"] == [
            {"to": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": port}]}
        ]


def test_no_policy_of_the_base_selects_a_pod_that_is_not_of_pgben() -> None:
    part = {"app.kubernetes.io/part-of": "pgben-tasks"}
    for policy in manifests.objects("NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        if selector != {"matchLabels": part}:
            assert matched(selector), policy["metadata"]["name"]
            assert matched(selector) <= set(pods()), policy["metadata"]["name"]


def test_names_are_looked_up_by_port_wherever_the_dns_of_the_cluster_is() -> None:
    (names_policy,) = [
        one["spec"]
        for one in manifests.objects("NetworkPolicy")
        if one["metadata"]["name"] == "pgben-names"
    ]
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    assert names_policy["podSelector"] == {
        "matchLabels": {"app.kubernetes.io/part-of": "pgben-tasks"}
    }
    assert names_policy["egress"] == [{"ports": ports}]


def reaching(policies: Any, server: str, ports: list[Any]) -> set[str]:
    """Return the workloads that may begin connections to a server."""
    found = set()
    for policy in policies:
        for rule in policy.get("egress", []):
            peers = [peer["podSelector"] for peer in rule.get("to", [])]
            # An empty selector is every pod of the namespace.
            if (
                any(not peer or server in matched(peer) for peer in peers)
                and rule["ports"] == ports
            ):
                found |= matched(policy["podSelector"])
    return found


def test_services_and_policies_name_pods_and_ports_that_exist() -> None:
    ports = {
        name: {
            port["name"]: port["containerPort"]
            for port in pod["spec"]["containers"][0].get("ports", [])
        }
        for name, pod in pods().items()
    }
    for service in manifests.objects("Service"):
        (name,) = service["spec"]["selector"].values()
        assert name == service["metadata"]["name"]
        for port in service["spec"].get("ports", []):
            assert ports[name][port["targetPort"]] == port["port"]
    for policy in manifests.objects("NetworkPolicy"):
        server = policy["metadata"]["name"]
        if server in ports:
            (rule,) = policy["spec"]["ingress"]
            assert {port["port"] for port in rule["ports"]} == set(ports[server].values())
