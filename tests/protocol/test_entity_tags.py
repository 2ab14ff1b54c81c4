"""Conditions of HTTP requests: what is read from the headers, and what follows from it."""

import pytest

from hubbub_protocol.entity_tags import Conditions
from hubbub_protocol.errors import BadFrame


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "instead"),
    [
        (None, None, None),
        ('"7"', None, None),
        ('W/"7"', None, None),
        ('"6", "7"', None, None),
        ("*", None, None),
        ('"6"', None, 412),
        (None, '"7"', 304),
        (None, ' "6" ,W/"7"', 304),
        (None, "*", 304),
        (None, '"a,b"', None),
        (None, '"*"', None),
        ('"6"', '"7"', 412),
        ('"7"', '"7"', 304),
    ],
)
def test_a_read_is_answered_by_what_is_there(
    if_match: str | None, if_none_match: str | None, instead: int | None
) -> None:
    assert Conditions.of(if_match, if_none_match).instead('"7"') == instead


@pytest.mark.parametrize("wrong", ["", "7", '"7', "'7'", '"7" "8"', '"7",', "*, *", '"7", *', '"a b"', "W/7"])
def test_what_is_no_entity_tag_is_refused(wrong: str) -> None:
    for headers in ((wrong, None), (None, wrong)):
        with pytest.raises(BadFrame, match="wanted"):
            Conditions.of(*headers)


def test_a_change_expects_one_version() -> None:
    assert Conditions.of(None, None).expected() is None
    assert Conditions.of(None, "*").expected() == 0
    assert Conditions.of('"7"', None).expected() == 7
    assert not Conditions.of('"7"', None).asks_for_current
    several = Conditions.of('"9", "7"', None)
    assert several.asks_for_current
    assert (several.expected(9), several.expected(8)) == (9, 7), "what is there, or what can't be"
    anything = Conditions.of("*", None)
    assert (anything.asks_for_current, anything.expected(8)) == (True, 8)


@pytest.mark.parametrize(
    ("if_match", "if_none_match"),
    [('"7"', "*"), (None, '"7"'), ('"abc"', None), ('"-1"', None), (f'"{"1" * 17}"', None), ('"7", "x"', None)],
)
def test_what_can_be_said_of_no_change_is_refused(if_match: str | None, if_none_match: str | None) -> None:
    with pytest.raises(BadFrame):
        Conditions.of(if_match, if_none_match).expected(7)
