"""The house around the code: what is promised to whoever installs, runs, checks and deploys it."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubbub_broker.config import Settings
from hubbub_broker.sources import CONFIG_VARIABLE, ENV_PREFIX
from hubbub_protocol import DEFAULT_PORT, __version__

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PACKAGES = {
    "hubbub": "sdk",
    "hubbub_protocol": "sdk",
    "hubbub_bench": "bench",
    "hubbub_broker": "broker",
    "hubbub_control": "broker",
}
TARGETS = {"format", "lint", "lock", "setup", "test", "wheel"}
TARGETS |= {"bench", "clean", "help", "kill-test", "run", "serve", "soak"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))


def requirement(line: str) -> str:
    """The normalized name of the distribution in a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", line)
    assert found, line
    return re.sub(r"[._-]+", "-", found.group()).lower()


def locked(name: str) -> dict[str, str]:
    """Version by distribution in a lock file."""
    return {
        requirement(line): line.split("==")[1].split()[0] for line in read(name).splitlines() if re.match(r"\w", line)
    }


# Version, licence, changes ------------------------------------------------------------------------------------------


def test_the_version_stands_in_one_place_and_the_changelog_has_it() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert pyproject()["project"]["dynamic"] == ["version"]
    assert pyproject()["tool"]["hatch"]["version"]["path"] == "sdk/hubbub_protocol/__init__.py"
    newest = re.search(r"^## \[(.+?)\] - (\d{4}-\d\d-\d\d|unreleased)$", read("CHANGELOG.md"), re.MULTILINE)
    assert newest, "CHANGELOG.md has no `## [VERSION] - DATE`"
    assert newest[1] == __version__


def test_the_changelog_keeps_to_its_headings() -> None:
    headings = re.findall(r"^### (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings
    assert set(headings) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_licence_is_apache_2_0_in_full() -> None:
    text = read("LICENSE")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text.splitlines()) > 190
    assert pyproject()["project"]["license"] == "Apache-2.0"


def test_the_distribution_holds_every_package() -> None:
    wheel = set(pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    there = {
        f"{root}/{path.name}"
        for root in ("bench", "broker", "sdk")
        for path in (ROOT / root).iterdir()
        if any(path.glob("*.py"))
    }
    assert wheel == there
    assert {f"{root}/{name}" for name, root in PACKAGES.items()} <= wheel


# Dependencies -------------------------------------------------------------------------------------------------------


def imported() -> Iterator[str]:
    """The top-level packages that the sources import, except the standard library's and our own."""
    for root in ("broker", "sdk"):
        for path in (ROOT / root).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                yield from (name.partition(".")[0] for name in names)


def test_the_dependencies_are_what_is_imported() -> None:
    provided_by = {
        "jsonschema_rs": "jsonschema-rs",
        "prometheus_client": "prometheus-client",
        "jwt": "pyjwt",
        "pydantic_core": "pydantic",
        "starlette": "fastapi",
        "click": "typer",
    }
    only_named = {"httptools"}  # uvicorn takes it where it is installed
    wanted = {provided_by.get(name, name) for name in imported() if name not in sys.stdlib_module_names} - set(PACKAGES)
    declared = {requirement(line) for line in pyproject()["project"]["dependencies"]}
    assert wanted == declared - only_named


def test_dependencies_have_a_lower_bound_and_no_exact_version() -> None:
    project = pyproject()["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        assert ">=" in line, line
        assert "==" not in line.partition(";")[0], line


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_says_what_and_never_from_where(name: str) -> None:
    text = read(name)
    assert not re.search(r"https?:|file:|ftp:|git\+|@ |--(extra-)?index|--find-links|-i |/", text), (
        "an address or a path"
    )
    for block in re.split(r"\n(?=\w)", text)[1:]:
        assert re.match(r"[a-z0-9-]+==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]


def test_the_locks_hold_what_the_project_asks_for_and_agree() -> None:
    project = pyproject()["project"]
    run, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {requirement(line) for line in project["dependencies"]} <= run.keys()
    assert {requirement(line) for line in project["optional-dependencies"]["dev"]} <= dev.keys()
    assert run.items() <= dev.items()
    assert {requirement(line) for line in pyproject()["build-system"]["requires"]} <= dev.keys(), (
        "set-up is not isolated"
    )


# The ways in --------------------------------------------------------------------------------------------------------


def test_make_has_its_targets_and_explains_them() -> None:
    assert make_targets() >= TARGETS
    done = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True, timeout=50)
    assert set(re.findall(r"^  make (\S+)", done.stdout, re.MULTILINE)) >= TARGETS


def test_every_make_command_that_the_pages_name_exists() -> None:
    pages = [
        ROOT / "README.md",
        DEPLOY / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "bench").glob("*.md")),
    ]
    named = set()
    for page in pages:
        for code in re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL):
            named |= set(re.findall(r"(?:^|[\s`;&])make ([a-z][a-z-]*)", code, re.MULTILINE))
    assert named <= make_targets()


def test_continuous_integration_runs_make_test_with_nobody_at_the_keyboard() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^exec make test </dev/null$", script.read_text(), re.MULTILINE)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=50)


def test_the_command_is_where_pip_is_told() -> None:
    from hubbub_broker import cli

    assert pyproject()["project"]["scripts"] == {"hubbub": "hubbub_broker.cli:main"}
    assert callable(cli.main)


def test_every_file_that_the_guarantees_name_exists() -> None:
    """A promise is held by a test, or it is none."""
    guarantees = read("docs/guarantees.md")
    named = set(re.findall(r"`(tests/[^`]*)`", guarantees)) | {
        f"docs/{name}" for name in re.findall(r"\bdocs/([a-z]+\.md)", guarantees)
    }
    assert len(named) > 50
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


# Deployment ---------------------------------------------------------------------------------------------------------


def settings_named(text: str) -> set[str]:
    """Settings that a text sets or mentions as environment variables."""
    return {
        name.lower() for name in re.findall(rf"\b{ENV_PREFIX}([A-Z_]+)\b", text) if ENV_PREFIX + name != CONFIG_VARIABLE
    }


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "hubbub.service", "README.md"])
def test_every_variable_in_deploy_is_a_setting(name: str) -> None:
    assert settings_named(read(f"deploy/{name}")) <= set(Settings.model_fields)


def test_compose_describes_one_confined_broker_on_loopback() -> None:
    compose = yaml.safe_load(read("deploy/compose.yaml"))
    (broker,) = compose["services"].values()
    assert broker["image"] == f"hubbub:{__version__}"
    assert broker["ports"] == [f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}"], "there is no authentication"
    assert broker["read_only"] is True
    assert broker["cap_drop"] == ["ALL"]
    assert broker["security_opt"] == ["no-new-privileges:true"]
    assert broker["user"].split(":")[0] != "0"
    assert broker["ulimits"]["nofile"] > Settings().max_connections
    ((volume, _, target),) = (item.partition(":") for item in broker["volumes"])
    assert volume in compose["volumes"]
    assert f"HUBBUB_DATA_DIR={target}" in read("deploy/Dockerfile")
    assert (DEPLOY / broker["build"]["context"] / broker["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    environment = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in broker["environment"].items()}
    assert Settings.model_validate(environment).host == "0.0.0.0"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of instruction and arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", read("deploy/Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word.upper(), rest.strip())
        for line in text.splitlines()
        if line.strip()
        for word, _, rest in [line.partition(" ")]
    ]


def test_the_image_is_built_in_stages_from_locked_hashed_dependencies() -> None:
    steps = instructions()
    assert sum(word == "FROM" for word, _ in steps) >= 2
    installs = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert installs
    for rest in installs:
        assert "--require-hashes -r requirements" in rest or "--no-deps" in rest, rest
    assert all(":" in rest.split()[0] and ":latest" not in rest for word, rest in steps if word == "FROM")


def test_the_image_runs_as_a_user_with_a_command_and_a_health_check() -> None:
    steps = instructions()
    last = steps[max(index for index, (word, _) in enumerate(steps) if word == "FROM") :]
    found = dict(last)
    assert found["USER"].split(":")[0] not in ("0", "root")
    assert [word for word, _ in last].index("USER") > max(
        index for index, (word, _) in enumerate(last) if word == "RUN"
    )
    assert found["ENTRYPOINT"] == '["hubbub"]'
    assert found["CMD"] == '["serve"]'
    assert found["EXPOSE"] == str(DEFAULT_PORT)
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert f"127.0.0.1:{DEFAULT_PORT}/v1/health" in found["HEALTHCHECK"]
    assert "/var/lib/hubbub" in found["VOLUME"]


def test_the_image_copies_only_what_exists_and_is_let_through() -> None:
    let_through = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    copied = {
        name.removeprefix("./")
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "hubbub.service")
    return parser


def test_the_unit_serves_as_a_confined_user_and_comes_back() -> None:
    service = unit()["Service"]
    assert service["ExecStart"].split()[1:] == ["serve"]
    assert service["User"] not in ("", "root")
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == "2", "a wrong setting is not mended by starting again"
    assert int(service["LimitNOFILE"]) > Settings().max_connections
    assert int(service["TimeoutStopSec"]) > 2 * Settings().shutdown_grace
    wanted = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
    }
    assert {name: service[name] for name in wanted} == wanted
    assert service["StateDirectory"] == "hubbub"
    assert "Environment=HUBBUB_DATA_DIR=/var/lib/hubbub" in read("deploy/hubbub.service")
    assert unit()["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit_and_finds_it_well_confined(tmp_path: Path) -> None:
    copy = tmp_path / "hubbub.service"
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", read("deploy/hubbub.service")))
    verified = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False, timeout=50
    )
    assert verified.returncode == 0, verified.stderr
    assert "hubbub.service" not in verified.stderr, "systemd warns about the unit"
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(copy)]
    rated = subprocess.run(security, capture_output=True, text=True, check=False, timeout=50)
    if "unrecognized option" in rated.stderr:
        pytest.skip("this systemd can't rate a file")
    assert rated.returncode == 0, rated.stdout[-2000:]


def test_the_runbook_answers_what_a_runbook_must() -> None:
    headings = re.findall(r"^## (.+)$", read("deploy/README.md"), re.MULTILINE)
    assert {"Install", "Upgrade", "Back up and restore", "What to watch", "Full disk", "Common failures"} <= set(
        headings
    )


def test_the_runbook_names_metrics_settings_and_commands_that_exist() -> None:
    from hubbub_broker.cli import app

    runbook = read("deploy/README.md")
    parts = ("metrics", "workers/exposition", "workers/figures")
    source = "".join(read(f"broker/hubbub_broker/{part}.py") for part in parts)
    metrics = set(re.findall(r"\bhubbub_(?!broker|protocol)[a-z_]+", runbook))
    assert len(metrics) > 8
    assert [name for name in metrics if f'"{name.removesuffix("_total")}"' not in source] == []
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    commands |= {group.name for group in app.registered_groups if group.name}
    named = set(
        re.findall(
            r"(?<![\w/.-])(?:/opt/hubbub/bin/)?hubbub ([a-z]+)\b",
            "\n".join(re.findall(r"```.*?```|`[^`\n]+`", runbook, re.DOTALL)),
        )
    )
    assert named
    assert named <= commands
    for name in (
        "retention_bytes",
        "min_free_bytes",
        "pending_soft",
        "slow_timeout",
        "topics_in_memory",
        "dedup_entries",
        "shards",
    ):
        assert f"`{name}`" in runbook
        assert name in Settings.model_fields
