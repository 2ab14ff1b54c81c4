"""How blobs lie in their topics, and what is no reference to one."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_protocol import codec
from hubbub_protocol.blobs import BlobRef, Copy, Piece, Survey, blob_topic, piece_of, refs_of
from hubbub_protocol.errors import BadName

SHA = hashlib.sha256(b"x").hexdigest()
REF = {"sha256": SHA, "size": 1, "group": "g", "by": "joe", "copy": "c", "name": "a.txt", "media_type": "text/plain"}


def test_a_topic_is_named_after_the_content() -> None:
    assert blob_topic("research", SHA) == f"research/_blobs/{SHA}"
    for group, sha in (("re/search", SHA), ("g", SHA[:-1]), ("g", SHA.upper()), ("g", SHA + "\n"), ("", SHA)):
        with pytest.raises(BadName):
            blob_topic(group, sha)


def test_a_reference_goes_through_a_header_unchanged() -> None:
    assert refs_of([REF]) == [BlobRef(**REF)]  # type: ignore[arg-type]
    assert codec.decode_value(codec.encode_value(refs_of([REF]))) == [REF]


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", {}, [1], [{}], [{**REF, "sha256": "x"}], [{**REF, "size": -1}], [{**REF, "group": "a/b"}],
     [{**REF, "by": "a/b"}], [{**REF, "size": "1"}], [{**REF, "size": 2**60}]],
)  # fmt: skip
def test_what_is_no_reference_is_left_out(value: Any) -> None:
    assert refs_of(value) == []
    if isinstance(value, list):
        assert refs_of([*value, REF]) == refs_of([REF])


@pytest.mark.parametrize(
    "headers",
    [b"", b"{}", b"[]", b"{", b'{"blob":1}', b'{"blob":{"at":0,"len":1}}', b'{"blob":{"at":-1,"len":1,"size":2}}',
     b'{"blob":{"at":0,"len":3,"size":2}}', b'{"blob":{"at":0,"len":-1,"size":2}}',
     b'{"blob":{"at":0,"len":0,"size":0,"more":1}}'],
)  # fmt: skip
def test_what_is_no_piece_is_none(headers: bytes) -> None:
    assert piece_of(headers) is None
    assert piece_of(b'{"hops":0,"blob":{"at":1,"len":1,"size":2,"copy":"c"}}') == Piece(1, 1, 2, "c")


@given(
    st.binary(max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=12),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_a_copy_is_whole_exactly_when_its_content_is_there(
    content: bytes, odd: list[tuple[int, int]], step: int, source: Any
) -> None:
    """Whatever else lies between its pieces: repeats, other cuts, other sizes."""
    size = len(content)
    own = [(at, min(step, size - at)) for at in range(0, size, step)] or [(0, 0)]
    others = [(at, length) for at, length in odd if at + length <= size]
    pieces = [*own]
    for other in others:
        pieces.insert(source.randrange(len(pieces) + 1), other)
    copy, survey, found = Copy(size), Survey(size), b""
    for seq, (at, length) in enumerate(pieces, 1):
        piece = Piece(at, length, size)
        survey.add("joe", seq, piece)
        survey.add("joe", seq, Piece(at, length, size + 1))
        skip = copy.add(seq, piece)
        if skip >= 0:
            found += content[at : at + length][skip:]
    assert found == content
    assert survey.whole() == [("joe", "")]
    assert survey.copies["joe", ""].first == next(seq for seq, (at, _) in enumerate(pieces, 1) if at == 0)


def test_a_hole_is_never_whole() -> None:
    survey = Survey(3)
    for seq, at in ((1, 0), (2, 2)):
        survey.add("joe", seq, Piece(at, 1, 3))
    survey.add("ann", 3, Piece(1, 2, 3))
    assert (survey.whole(), survey.begun("joe"), survey.begun("ann")) == ([], "", None)


def test_the_copy_of_the_reference_comes_first() -> None:
    survey = Survey()
    for sender, copy in (("ann", "1"), ("joe", "1"), ("joe", "2")):
        survey.add(sender, 1, Piece(0, 1, 1, copy))
    assert survey.whole(("joe", "2")) == [("joe", "2"), ("joe", "1"), ("ann", "1")]
