import pytest

from hubbub_broker.quantity import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("1MiB", 1 << 20),
        (" 64 mib ", 64 << 20),
        ("1.5KiB", 1536),
        ("2GB", 2_000_000_000),
        ("3 TiB", 3 << 40),
        ("17B", 17),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "-1", "1M", "MiB", "1 MiB!", "1e6", "0x10", "٣", "1,5KiB", "9" * 40, "1" + " " * 50 + "x"]
)
def test_not_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="not a size: a whole number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        ("2.5", 2.5),
        ("24h", 86400.0),
        ("7d", 604800.0),
        ("1d12h", 129600.0),
        ("1h 30m", 5400.0),
        ("250ms", 0.25),
        ("2W", 1209600.0),
        ("5min", 300.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "-5s", "1y", "10 parsecs", "1h30", "nan", "inf", "1e3s"])
def test_not_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration: a number of seconds"):
        parse_duration(text)


@pytest.mark.parametrize("size", [0, 1, 1000, 1024, 1536, 1 << 20, (1 << 20) + 1, 64 << 20, 5 << 40])
def test_a_formatted_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.25, 1.0, 59.5, 60.0, 90.0, 3600.0, 86400.0, 604800.0, 1234567.5])
def test_a_formatted_duration_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


def test_formats_are_short() -> None:
    assert [format_size(size) for size in (1 << 20, 1 << 10, 1000)] == ["1MiB", "1KiB", "1000"]
    assert [format_duration(seconds) for seconds in (86400.0, 604800.0, 1.5)] == ["24h", "7d", "1.5s"]
