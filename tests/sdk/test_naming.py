"""Names of topics and the broker's address, as applications write them."""

import pytest

from hubbub import InvalidName
from hubbub.naming import REMEMBERED_MAX, Naming, endpoint_url


@pytest.mark.parametrize(
    ("group", "given", "whole"),
    [
        ("g", "conv-42", "g/conv-42"),
        ("g", "other/conv-42", "other/conv-42"),
        ("g", "@joe", "g/@joe"),
        (None, "other/conv-42", "other/conv-42"),
        ("g", "*", "g/*"),
        ("g", "**", "**"),
        (None, "**", "**"),
        ("g", "a/**", "a/**"),
    ],
)
def test_patterns(group: str | None, given: str, whole: str) -> None:
    assert Naming(group).pattern(given) == whole


@pytest.mark.parametrize("given", ["", "a b", "a//b", "**/a", "a*", "g/" + "x" * 129, "é"])
def test_bad_patterns(given: str) -> None:
    with pytest.raises(InvalidName):
        Naming("g").pattern(given)


def test_a_topic_is_no_pattern() -> None:
    naming = Naming("g")
    assert naming.topic("c") == naming.topic("c") == "g/c"
    for pattern in ("*", "**", "g/*"):
        with pytest.raises(InvalidName, match="pattern"):
            naming.topic(pattern)


def test_a_name_without_group() -> None:
    with pytest.raises(InvalidName, match="write GROUP/c, or give the agent a group"):
        Naming(None).topic("c")


def test_what_is_remembered_is_bounded() -> None:
    naming = Naming("g")
    for number in range(REMEMBERED_MAX + 10):
        naming.topic(str(number))
    assert len(naming._topics) <= REMEMBERED_MAX


@pytest.mark.parametrize("url", ["", "broker:8091", "ftp://broker", "ws://", "//broker"])
def test_no_addresses(url: str) -> None:
    with pytest.raises(ValueError, match="ws://HOST:PORT"):
        endpoint_url(url)
