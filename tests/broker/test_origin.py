import pytest

from hubbub_broker.origin import why_refused


@pytest.mark.parametrize("host", [None, "127.0.0.1:8091", "localhost", "[::1]:8091", "127.1.2.3"])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "http://127.0.0.1:8091", "https://[::1]"])
def test_this_machine_may(host: str | None, origin: str | None) -> None:
    assert why_refused(host, origin) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8091", "10.0.0.1", "", ":8091", "[::1", "a@b"]
)
def test_a_name_that_was_made_to_lead_here_may_not(host: str) -> None:
    assert "Host is" in (why_refused(host, None) or "")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "file://", "http://127.0.0.1.evil.example", "http://["]
)
def test_a_page_of_another_host_may_not(origin: str) -> None:
    assert "Origin is" in (why_refused("127.0.0.1", origin) or "")


def test_the_refusal_is_short_whatever_was_sent() -> None:
    assert len(why_refused("x" * 100_000, None) or "") < 300


APP = "https://app.example.org"


@pytest.mark.parametrize(
    ("host", "origin", "allowed", "authenticates", "may"),
    [
        ("127.0.0.1", APP, (APP,), False, True),
        ("127.0.0.1", APP, ("*",), False, True),
        ("127.0.0.1", APP + ":8443", (APP,), False, False),
        ("127.0.0.1", APP + ".evil.example", (APP,), False, False),
        ("bus.example.org", None, (APP,), False, False),
        ("bus.example.org", None, (), True, True),
        ("bus.example.org", APP, (APP,), True, True),
        ("bus.example.org", APP, (), True, False),
        ("bus.example.org:8091", "https://bus.example.org:8091", (), True, True),
        ("bus.example.org:8091", "https://bus.example.org", (), True, False),
        ("bus.example.org:8091", "https://bus.example.org:8091", (), False, False),
        (None, "null", (), True, False),
        ("", "null", (), True, False),
        ("null", "null", (), True, False),
    ],
)
def test_what_is_allowed_besides(
    host: str | None, origin: str | None, allowed: tuple[str, ...], authenticates: bool, may: bool
) -> None:
    assert (why_refused(host, origin, allowed, authenticates=authenticates) is None) is may
