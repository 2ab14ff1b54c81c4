"""What an error says about when to come back."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.resilience import CircuitOpen, retry_after_of

NOW = 1_000_000_000.0  # Sun, 09 Sep 2001 01:46:40 GMT


def error(**attributes: Any) -> Exception:
    raised = Exception()
    vars(raised).update(attributes)
    return raised


def answered(headers: dict[str, str]) -> Exception:
    response = httpx.Response(429, headers=headers, request=httpx.Request("GET", "http://a"))
    return httpx.HTTPStatusError("429", request=response.request, response=response)


@pytest.mark.parametrize(
    ("raised", "seconds"),
    [
        (error(), None),
        (error(retry_after=3), 3.0),
        (error(retry_after="3.5"), 3.5),
        (error(retry_after=-1), 0.0),
        (error(retry_after=None), None),
        (error(retry_after=True), None),
        (error(retry_after=float("inf")), None),
        (CircuitOpen("", "", 7.0), 7.0),
        (answered({"Retry-After": "120"}), 120.0),
        (answered({"retry-after-ms": "250", "Retry-After": "1"}), 0.25),
        (answered({"Retry-After": "Sun, 09 Sep 2001 01:47:00 GMT"}), 20.0),
        (answered({"Retry-After": "Sun, 09 Sep 2001 01:46:00 GMT"}), 0.0),
        (answered({"Retry-After": "soon"}), None),
        (answered({}), None),
        (error(response=SimpleNamespace(headers={"Retry-After": "5"})), 5.0),
        (error(headers={"retry-after": "5"}), 5.0),
        (error(response=None), None),
    ],
)
def test_it_is_found_where_clients_put_it(raised: Exception, seconds: float | None) -> None:
    assert retry_after_of(raised, NOW) == seconds


@given(st.text())
def test_no_header_is_too_strange(text: str) -> None:
    found = retry_after_of(error(headers={"retry-after": text}), NOW)
    assert found is None or found >= 0
