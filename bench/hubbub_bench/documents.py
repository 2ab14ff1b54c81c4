"""Parts of documents that a measurement writes: what stands between a marker and its end.

<!-- measured: NAME -->
...
<!-- end of NAME -->
"""

import re
from pathlib import Path


class NoSuchPart(Exception):
    """A document has no part of that name."""


def write_part(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of that name, instead of what stands there.

    Raises:
        NoSuchPart: if there are none, or several.
    """
    before = path.read_text(encoding="utf-8")
    begin, end = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(before)) != 1:
        raise NoSuchPart(f"{path}: needs `{begin}` and `{end}` once, around what is to be written")
    after = pattern.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", before)
    path.write_text(after, encoding="utf-8")
