"""Codes carry policy, and the contract names every one of them."""

from http import HTTPStatus

import pytest

from hubbub_protocol.errors import BadFrame, BadName, CloseCode, ErrorCode, ProtocolError, should_reconnect

CONTRACT = """bad_request unauthorized forbidden too_large rate_limited overloaded order wrong_shard conflict not_found
read_only shutting_down internal"""
EXTENSIONS = {"loop", "budget"}
"""Of the guard: a client that does not know them must not retry, and by the rule for unknown codes does not."""


def test_the_error_codes_are_those_of_the_contract() -> None:
    assert {str(code) for code in ErrorCode} == set(CONTRACT.split()) | EXTENSIONS
    assert not any(ErrorCode(code).retryable for code in EXTENSIONS)


def test_the_close_codes_are_those_of_the_contract() -> None:
    own = {4001, 4005, 4008, 4012, 4013, 4500, 4501, 4503, 4504, 4507, 4509}
    assert {int(code) for code in CloseCode} == {1000, 1001, 1009, 1013} | own


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_has_an_http_status_that_agrees_about_retrying(code: ErrorCode) -> None:
    status = HTTPStatus(code.http_status)
    assert status >= 400
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        assert code.retryable
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        assert not code.retryable


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_a_close_code_of_ours_says_by_its_range_whether_to_come_back(code: CloseCode) -> None:
    stay_away = {
        "UNAUTHORIZED",
        "NOT_THIS_PROTOCOL",
        "DISCONNECTED_BY_OPERATOR",
        "CONNECTION_LIMIT",
        "FORBIDDEN",
        "REPLACED",
    }
    assert should_reconnect(code) == (code.name not in stay_away)


@pytest.mark.parametrize(
    ("code", "back"),
    [(1001, True), (1006, True), (1009, True), (4000, True), (4499, True), (4500, False), (4999, False), (3000, True)],
)
def test_an_unknown_close_code_goes_by_its_range(code: int, back: bool) -> None:
    assert should_reconnect(code) is back


@pytest.mark.parametrize("error", [BadFrame, BadName])
def test_everything_the_peer_did_wrong_is_a_protocol_error(error: type[ProtocolError]) -> None:
    with pytest.raises(ProtocolError, match="why"):
        raise error("why")
