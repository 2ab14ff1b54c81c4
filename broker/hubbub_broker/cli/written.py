"""What agents wrote, for people. Loaded only by commands that print it: the codec takes its time to load."""

from msgspec import Raw

from hubbub_protocol.codec import decode_value
from hubbub_protocol.errors import BadFrame

from .output import compact


def as_written(text: bytes | Raw) -> str:
    """What an agent wrote, on one line: a text, or any JSON value; what Python can't read as it stands."""
    try:
        value = decode_value(text)
        return value if isinstance(value, str) else compact(value)
    except (BadFrame, RecursionError):
        return bytes(text).decode()
