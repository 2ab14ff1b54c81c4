"""`hubbub config`, and the page that is made from it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hubbub_broker.cli import app
from hubbub_broker.cli.config import _SECTIONS, render_reference
from hubbub_broker.config import Settings
from hubbub_broker.policy_rule import POLICY_FIELDS
from hubbub_broker.sources import load

CLEAN = {"HUBBUB_CONFIG": "", "HUBBUB_PORT": ""}
REPOSITORY = Path(__file__).parents[2]


def config(*arguments: str, **environ: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["config", *arguments], env={**CLEAN, **environ})
    return result.exit_code, result.stdout, result.stderr


def test_what_is_printed_can_be_read_back(tmp_path: Path) -> None:
    file = tmp_path / "hubbub.toml"
    file.write_text(
        'max_frame = "2MiB"\nheartbeat = 0\ndata_dir = "/srv/\\"odd\\" dir"\n'
        '[[policy]]\npattern = "metrics/**"\ndurable = false\nmax_ttl = "90m"\n'
        '[[policy]]\npattern = "**"\nmax_bytes = "1GiB"\n'
    )
    code, printed, _ = config("--config", str(file), "--set", "publish_rate=12.5")
    assert code == 0
    again = tmp_path / "again.toml"
    again.write_text(printed)
    given = load(file, given={"publish_rate": 12.5}, environ={}).settings
    assert load(again, environ={}).settings == given


def test_every_setting_is_printed_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "hubbub.toml"
    file.write_text("shards = 4\n")
    _, printed, _ = config("--config", str(file), "--set", "max-inflight=9", HUBBUB_PORT="9000")
    lines = {line.partition(" ")[0]: line for line in printed.splitlines()}
    assert set(Settings.model_fields) - {"policy"} == set(lines)
    assert lines["port"].endswith("# HUBBUB_PORT")
    assert lines["shards"].endswith(f"# {file}")
    assert lines["max_inflight"].endswith("# --set")
    assert "#" not in lines["host"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "port=99999"], 'hubbub: port = "99999" (--set): must be a whole number, 0 to 65535'),
        (["--set", "prot=1"], 'hubbub: prot = "1" (--set): there is no such setting; did you mean port?'),
        (["--set", "port"], "hubbub: --set port: NAME=VALUE is wanted, such as --set max_frame=2MiB"),
        (
            ["--config", "/nowhere.toml"],
            "hubbub: settings file /nowhere.toml: can't read it: No such file or directory",
        ),
    ],
)
def test_a_wrong_setting_is_2_and_says_why(arguments: list[str], message: str) -> None:
    code, printed, complaint = config(*arguments)
    assert (code, printed) == (2, "")
    assert complaint.strip() == message


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "hubbub.toml"
    file.write_text("port = 1234\n")
    assert "port = 1234" in config(HUBBUB_CONFIG=str(file))[1]


def test_the_reference_has_every_setting_once() -> None:
    listed = [name for names in _SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(Settings.model_fields)
    text = render_reference()
    for name in (*Settings.model_fields, *POLICY_FIELDS, "pattern"):
        assert f"| `{name}` |" in text, name


def test_the_page_in_the_documentation_is_the_reference() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == config("--reference")[1], "run: hubbub config --reference > docs/configuration.md"


@pytest.mark.parametrize("name", ["\U0001f600", "ä", "\x7f", 'a"b\\c', "tab\there"])
def test_a_path_of_any_characters_can_be_read_back(tmp_path: Path, name: str) -> None:
    file = tmp_path / "hubbub.toml"
    code, printed, _ = config(HUBBUB_DATA_DIR=f"/srv/{name}")
    file.write_text(printed)
    code, _, complaint = config("--config", str(file))
    assert code == 0, complaint
    assert str(load(file, environ={}).settings.data_dir) == f"/srv/{name}"


def test_more_shards_than_a_data_directory_has_are_refused_as_a_setting() -> None:
    assert config("--set", "shards=999")[0] == 0
    code, _, complaint = config("--set", "shards=1000")
    assert code == 2
    assert "1 to 999" in complaint
