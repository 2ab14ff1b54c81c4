"""What a broker may be told, what it refuses, and where a value comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from hubbub_broker.config import Settings
from hubbub_broker.loopback import is_loopback
from hubbub_broker.sources import ConfigError, Loaded, Problem, load


def from_toml(tmp_path: Path, text: str, **environ: str) -> Loaded:
    file = tmp_path / "hubbub.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, environ=environ)


def problems(tmp_path: Path, text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        from_toml(tmp_path, text)
    return caught.value.problems


# Refusals


@pytest.mark.parametrize(
    ("line", "setting", "message"),
    [
        ("port = 65536", "port", "must be a whole number, 0 to 65535"),
        ("port = -1", "port", "must be a whole number, 0 to 65535"),
        ('port = "http"', "port", "must be a whole number, 0 to 65535"),
        ("port = true", "port", "must be a whole number, 0 to 65535"),
        ("port = 80.5", "port", "must be a whole number, 0 to 65535"),
        ("shards = 0", "shards", "must be a whole number, 1 to 999"),
        ("shards = []", "shards", "must be a whole number, 1 to 999"),
        ('log_format = "xml"', "log_format", "must be auto, json or text"),
        ('log_level = "INFO"', "log_level", "must be debug, info, warning or error"),
        ("uvloop = true", "uvloop", "must be auto, on or off"),
        ('insecure = "perhaps"', "insecure", "must be true or false"),
        ("heartbeat = -1", "heartbeat", "must be 0 (off), or 0.01s to 60m"),
        ("heartbeat = 0.001", "heartbeat", "must be 0 (off), or 0.01s to 60m"),
        ("heartbeat = nan", "heartbeat", "must be 0 (off), or 0.01s to 60m"),
        ("heartbeat = inf", "heartbeat", "must be 0 (off), or 0.01s to 60m"),
        ("hello_timeout = 0", "hello_timeout", "must be 0.01s to 5m"),
        ('hello_timeout = "1 fortnight"', "hello_timeout", "must be 0.01s to 5m (not a duration: a number of seconds"),
        ('max_frame = "1M"', "max_frame", "must be 4KiB to 1GiB (not a size: a whole number of bytes"),
        ("max_frame = 0", "max_frame", "must be 4KiB to 1GiB"),
        ("retention_bytes = 1", "retention_bytes", "must be 0 (no limit), or 4KiB to 1024TiB"),
        ('host = ""', "host", "must be a host name or an IP address"),
        ('host = "http://x"', "host", "must be a host name or an IP address"),
        ('host = "0.0.0.0"', "host", "authentication is off, so the broker listens on loopback only"),
        ('host = "example.org"', "host", "authentication is off, so the broker listens on loopback only"),
        ('pending_soft = "65MiB"', "pending_soft", "must be at most pending_hard, which is 64MiB"),
        ("prot = 8091", "prot", "there is no such setting; did you mean port?"),
        ("data-dir = 'x'", "data-dir", "there is no such setting; did you mean data_dir?"),
        ("zzz = 1", "zzz", "there is no such setting; `hubbub config --reference` lists them all"),
        ('bus_token = "a b"', "bus_token", "must be text without spaces (not a token)"),
        ('bus_token = "é"', "bus_token", "must be text without spaces (not a token)"),
        ('token_secret = "short"', "token_secret", "must be 32 characters or more"),
        ('max_token_bytes = "1MiB"', "max_token_bytes", "must be 256 to 64KiB"),
        ('allowed_origins = ["app.example.org"]', "allowed_origins", "must be a list of origins"),
        ('allowed_origins = ["https://app.example.org/"]', "allowed_origins", "must be a list of origins"),
        ('tls_certificate = "chain.pem"', "tls_certificate", "takes tls_key with it"),
        ("policy = 3", "policy", "must be a list of [[policy]] tables"),
        ("policy = [3]", "policy #1", "must be a [[policy]] table"),
        ("[[policy]]\ndurable = false", "policy #1 pattern", "is missing: every rule needs one"),
        ('[[policy]]\npattern = "a"', "policy #1 pattern", "bad topic 'a': a topic is GROUP/CONVERSATION"),
        ('[[policy]]\npattern = "a/b*"', "policy #1 pattern", "bad pattern 'a/b*'"),
        ('[[policy]]\npattern = "*"', "policy #1 pattern", "bad pattern '*': a topic has two"),
        ('[[policy]]\npattern = "**"\nmax_age = "x"', "policy #1 max_age", "must be 0 (for ever), or 1s to 3650d"),
        (
            '[[policy]]\npattern = "**"\nmax_agee = 1',
            "policy #1 max_agee",
            "there is no such setting; did you mean max_age",
        ),
        (
            '[[policy]]\npattern = "**"\n[[policy]]\npattern = "a/*"',
            "policy #2 pattern",
            "'a/*' is never reached: an earlier rule has this pattern, or `**`",
        ),
        (
            '[[policy]]\npattern = "a/*"\n[[policy]]\npattern = "a/*"',
            "policy #2 pattern",
            "'a/*' is never reached",
        ),
        (
            '[[policy]]\npattern = "**"\nmax_message = "2MiB"',
            "policy #1 max_message",
            "must be at most max_frame, which is 1MiB",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, line: str, setting: str, message: str) -> None:
    (problem,) = problems(tmp_path, line)
    assert problem.setting == setting
    assert problem.message.startswith(message)
    assert problem.source == str(tmp_path / "hubbub.toml")
    assert "\n" not in str(problem)


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    assert [problem.setting for problem in problems(tmp_path, "port = -1\nshards = 0\nnope = 1")] == [
        "port",
        "shards",
        "nope",
    ]


def test_a_refusal_is_one_line_that_says_what_where_and_what_is_allowed() -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={"HUBBUB_PORT": "99999"})
    assert str(caught.value) == 'port = "99999" (HUBBUB_PORT): must be a whole number, 0 to 65535'


def test_a_long_value_is_cut_in_the_refusal(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, f'log_level = "{"x" * 5000}"')
    assert len(str(problem)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"port = ", "is not valid TOML: Invalid value"),
        (b"port = 1\nport = 2", "is not valid TOML: Cannot overwrite a value"),
        (b"host = '\xff'", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "hubbub.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load(file, environ={})
    assert str(caught.value).startswith(f"settings file {file}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read it: No such file"):
        load(tmp_path / "none.toml", environ={})


def test_an_unknown_variable_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"datadir.*\(HUBBUB_DATADIR\): there is no such setting; did you mean data_dir"
    ):
        load(environ={"HUBBUB_DATADIR": "/srv"})


def test_variables_of_clients_and_platforms_are_no_settings() -> None:
    loaded = load(
        environ={
            "HUBBUB_URL": "ws://x",
            "HUBBUB_TOKEN": "t",
            "HUBBUB_AGENT": "joe",
            "HUBBUB_SERVICE_HOST": "10.0.0.1",
            "HUBBUB_PORT_8091_TCP": "tcp://10.0.0.1:8091",
            "HUBBUB_TEST_MS": "1",
            "PATH": "/bin",
        }
    )
    assert loaded.settings == Settings()
    assert loaded.sources == {}


def test_a_policy_variable_that_is_not_json_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"HUBBUB_POLICY.*is not valid JSON.*a list of objects is wanted"):
        load(environ={"HUBBUB_POLICY": "x/*"})


# Where a value comes from


def test_the_environment_beats_the_file_and_the_command_line_beats_both(tmp_path: Path) -> None:
    file = tmp_path / "hubbub.toml"
    file.write_text('port = 1\nshards = 2\nmax_frame = "2MiB"\n')
    loaded = load(file, environ={"HUBBUB_SHARDS": "3", "HUBBUB_PORT": "4"}, given={"port": 5, "host": None})
    assert (loaded.settings.port, loaded.settings.shards, loaded.settings.max_frame) == (5, 3, 2 << 20)
    assert loaded.settings.host == "127.0.0.1"
    assert loaded.sources == {"port": "--port", "shards": "HUBBUB_SHARDS", "max_frame": str(file)}
    assert loaded.source_of("host") == "default"


def test_the_option_that_gave_a_wrong_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"port = -1 \(--port\)"):
        load(given={"port": -1}, environ={})
    with pytest.raises(ConfigError, match=r"port = -1 \(--set port\)"):
        load(given={"port": -1}, given_by={"port": "--set port"}, environ={})


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text("port = 1")
    other.write_text("port = 2")
    assert load(environ={"HUBBUB_CONFIG": str(one)}).settings.port == 1
    assert load(other, environ={"HUBBUB_CONFIG": str(one)}).settings.port == 2


def test_an_empty_variable_is_not_set() -> None:
    assert load(environ={"HUBBUB_PORT": "", "HUBBUB_CONFIG": ""}).settings.port == 8091


def test_units_are_read_everywhere(tmp_path: Path) -> None:
    settings = from_toml(tmp_path, 'max_frame = "2MiB"\nheartbeat = "1m"\n', HUBBUB_SLOW_TIMEOUT="1h30m").settings
    assert (settings.max_frame, settings.heartbeat, settings.slow_timeout) == (2 << 20, 60.0, 5400.0)


def test_settings_can_be_made_without_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_PORT", "1")
    assert Settings().port == 8091
    assert Settings(port=0, heartbeat=0).heartbeat == 0


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


def test_every_default_is_within_its_own_bounds() -> None:
    assert Settings.model_validate(Settings().model_dump()) == Settings()


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


# Policies


def rules(*tables: dict[str, Any], **settings: Any) -> Settings:
    return Settings.model_validate({"policy": tables, **settings})


def test_without_rules_everything_is_durable_for_a_week() -> None:
    policy = Settings(max_frame=8192, dedup_window=60).policies().of("research/conv-42")
    assert (policy.durable, policy.max_age, policy.max_message, policy.dedup_window) == (True, 604800.0, 8192, 60.0)


def test_a_rule_inherits_from_the_last_one_for_everything() -> None:
    policies = rules(
        {"pattern": "metrics/**", "durable": False},
        {"pattern": "audit/*", "max_age": "0", "max_message": "64KiB"},
        {"pattern": "**", "max_age": "30d", "max_message": "512KiB", "dedup_window": "1h"},
    ).policies()
    assert (policies.of("metrics/cpu/1").durable, policies.of("metrics/cpu/1").max_age) == (False, 2592000.0)
    assert (policies.of("audit/a").max_age, policies.of("audit/a").max_message) == (0.0, 65536)
    assert (policies.of("x/y").max_age, policies.of("x/y").dedup_window) == (2592000.0, 3600.0)


def test_a_rule_of_zero_message_bytes_means_the_frame_limit() -> None:
    policies = rules({"pattern": "a/*", "max_message": 0}, {"pattern": "**", "max_message": 1024}).policies()
    assert policies.of("a/b").max_message == 1 << 20
    assert policies.of("x/b").max_message == 1024


def test_rules_come_from_the_environment_too() -> None:
    loaded = load(environ={"HUBBUB_POLICY": json.dumps([{"pattern": "logs/**", "durable": False, "max_ttl": "1h"}])})
    assert loaded.settings.policies().of("logs/a").durable is False
    assert loaded.settings.policies().of("logs/a").max_ttl == 3600.0
    assert loaded.settings.policies().of("x/a").durable is True


# Hosts


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "broker.example", "localhost.example"])
def test_beyond_loopback_takes_a_decision(host: str) -> None:
    assert not is_loopback(host)
    assert Settings(host=host, insecure=True).host == host


@pytest.mark.parametrize(
    "key", [{"bus_token": "t"}, {"bus_token_file": "f"}, {"token_keys": "k"}, {"token_secret": "s" * 32}]
)
def test_with_a_key_it_listens_anywhere(key: dict[str, str]) -> None:
    settings = Settings.model_validate({"host": "0.0.0.0", **key})
    assert settings.authenticates
    assert not settings.insecure


def test_an_empty_key_is_none() -> None:
    empty = {"bus_token": "", "bus_token_file": "", "token_keys": "", "token_secret": ""}
    assert not Settings.model_validate(empty).authenticates
    with pytest.raises(ValueError, match="authentication is off"):
        Settings.model_validate({"host": "0.0.0.0", **empty})


def test_origins_may_be_a_list_or_a_text() -> None:
    for given in (["https://a.example", "http://b.example:3000"], "https://a.example, http://b.example:3000"):
        settings = Settings.model_validate({"allowed_origins": given})
        assert settings.allowed_origins == ("https://a.example", "http://b.example:3000")


def test_a_secret_is_not_shown_with_its_settings() -> None:
    settings = Settings.model_validate({"bus_token": "must-not-show", "token_secret": "must-not-show" * 3})
    assert "must-not-show" not in repr(settings) + str(settings)
