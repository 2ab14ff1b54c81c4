"""The scan: covers every byte, finds every whole record, whatever lies between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.log import Files, scan
from hubbub_broker.log.record import encode_state, seal_record

MARK = 0xA1B2C3D5
pieces = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=60)), max_size=8)


def scanned(path, data, monkeypatch=None):
    path.write_bytes(data)
    files = Files()
    with files.reading(path) as fd:
        return list(scan.scan(files, fd, MARK, 0, len(data)))


@given(pieces)
def test_whole_records_are_found_between_garbage(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("scan") / "file"
    records = [seal_record(MARK, encode_state(1, b"k", body, 0)) if whole else body for whole, body in parts]
    found = scanned(path, b"".join(records))
    assert [f.record for f in found if f.record] == [r for r, (whole, _) in zip(records, parts, strict=True) if whole]
    end = 0
    for stretch in found:
        assert stretch.offset == end
        end += stretch.size
    assert end == sum(map(len, records))


def test_a_record_of_another_file_does_not_pass(tmp_path):
    forged = seal_record(MARK + 1, encode_state(1, b"k", b"v", 0))
    assert [f.record for f in scanned(tmp_path / "file", forged)] == [None]


@pytest.mark.parametrize("window", [32, 100, 4096])
def test_a_small_window_finds_the_same(tmp_path, monkeypatch, window):
    monkeypatch.setattr(scan, "WINDOW", window)
    good = [seal_record(MARK, encode_state(1, b"k", bytes([n]) * n * 9, 0)) for n in range(20)]
    data = b"x" * 77 + b"".join(good[:10]) + MARK.to_bytes(4, "little") * 9 + b"".join(good[10:])
    assert [f.record for f in scanned(tmp_path / "file", data) if f.record] == good
