"""Retry or give up."""

import pytest

from hubbub import errors, policy
from hubbub_protocol.errors import CloseCode, ErrorCode
from hubbub_protocol.frames import Err


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1009, 1013, 3999, 4000, 4001, 4005, 4008, 4012, 4013, 4499, 5000])
def test_codes_to_come_back_from(code: int) -> None:
    assert policy.refusal_of_close(code) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CloseCode.UNAUTHORIZED, errors.Unauthorized),
        (CloseCode.NOT_THIS_PROTOCOL, errors.WrongProtocol),
        (CloseCode.DISCONNECTED_BY_OPERATOR, errors.Disconnected),
        (CloseCode.CONNECTION_LIMIT, errors.ConnectionLimit),
        (CloseCode.FORBIDDEN, errors.NotAllowed),
        (CloseCode.REPLACED, errors.Replaced),
        (4555, errors.Refused),
        (4999, errors.Refused),
    ],
)
def test_codes_not_to_come_back_from(code: int, kind: type[errors.Refused]) -> None:
    refusal = policy.refusal_of_close(code, "because")
    assert type(refusal) is kind
    assert refusal.code == code
    assert "because" in str(refusal)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_is_either_retried_or_an_exception(code: ErrorCode) -> None:
    rejection = policy.rejection_of(Err(code=code, message="why"))
    assert policy.is_retryable(code) is code.retryable
    assert (type(rejection) is errors.Rejected) is code.retryable
    assert rejection.code == code


def test_a_code_of_a_later_version_is_not_retried() -> None:
    assert not policy.is_retryable("too_purple")
    assert type(policy.rejection_of(Err(code="too_purple", message="why"))) is errors.Rejected


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("unauthorized", errors.Unauthorized),
        ("forbidden", errors.NotAllowed),
        ("bad_request", errors.WrongProtocol),
        ("overloaded", None),
        ("shutting_down", None),
        ("wrong_shard", None),
    ],
)
def test_errors_to_hello(code: str, kind: type | None) -> None:
    refusal = policy.refusal_of_hello(Err(code=code, message="why"))
    assert (None if refusal is None else type(refusal)) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, errors.Unauthorized), (403, errors.NotAllowed), (404, None), (502, None), (503, None), (None, None)],
)
def test_http_statuses(status: int | None, kind: type | None) -> None:
    refusal = policy.refusal_of_status(status)
    assert (None if refusal is None else type(refusal)) is kind


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.HubbubError) and kind.__module__ == errors.__name__
    ]
    assert len(kinds) > 20
    for kind in kinds:
        assert kind.__name__ in errors.__doc__, f"{kind.__name__} is not drawn"
        assert kind.__doc__, f"{kind.__name__} says nothing"
