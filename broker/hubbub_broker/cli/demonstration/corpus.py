"""Which text there is to read, and a piece of it.

By default that is the Python library which runs this program: every installation has it. Tests are left out.
"""

import os
import random
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LIBRARY_SUFFIXES = (".py", ".txt", ".rst")
_NOT_THE_LIBRARY = frozenset({"__pycache__", "idle_test", "site-packages", "dist-packages", "test", "tests"})

SNIFF_BYTES = 4096
"""A file with a zero byte at its beginning is no text."""

FILES_MAX = 5000
"""Files that are read at most: a conversation's task names all of its files in one message."""

LINE_BYTES_MAX = 4096
"""How much further than its end a piece is read to end with a line. Longer lines are cut."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of a corpus, by its path inside the corpus' folder."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder and the text files in it, sorted."""

    folder: Path
    files: tuple[TextFile, ...]

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum(file.size for file in self.files)


def library() -> Corpus:
    """The text of the Python standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    files = (
        file
        for file in _walk(folder, _NOT_THE_LIBRARY)
        if file.path.endswith(LIBRARY_SUFFIXES) and is_text(folder / file.path)
    )
    return Corpus(folder, tuple(sorted(files, key=lambda file: file.path)))


def of_folder(folder: Path) -> Corpus:
    """Every text file under `folder`, hidden ones left out.

    Raises:
        OSError: if it can't be read.
    """
    next(folder.iterdir(), None)  # a walk would keep silent about a folder that can't be read
    files = (file for file in _walk(folder, frozenset()) if is_text(folder / file.path))
    return Corpus(folder, tuple(sorted(files, key=lambda file: file.path)))


def sample(corpus: Corpus, most_bytes: int, source: random.Random) -> Corpus:
    """Whole files of the corpus, drawn at random, with `most_bytes` of text at most: all of it, if that is less."""
    if corpus.size <= most_bytes and len(corpus.files) <= FILES_MAX:
        return corpus
    drawn: list[TextFile] = []
    left = most_bytes
    for file in source.sample(corpus.files, len(corpus.files)):
        if len(drawn) == FILES_MAX or not left:
            break
        drawn.append(TextFile(file.path, min(file.size, left)))  # the last one is read from its beginning only
        left -= drawn[-1].size
    return Corpus(corpus.folder, tuple(sorted(drawn, key=lambda file: file.path)))


def read_piece(path: Path, start: int, end: int) -> str:
    """The lines of a file that begin at `start` or later, and before `end`. So each line is in exactly one piece.

    A line longer than `LINE_BYTES_MAX` is cut where pieces end, and may not be read whole.

    Raises:
        OSError: if it can't be read.
    """
    before = max(0, start - 1)  # the byte before tells whether a line begins here
    size = end - before
    with path.open("rb") as file:
        file.seek(before)
        raw = file.read(size + LINE_BYTES_MAX)
    cut = len(raw) == size + LINE_BYTES_MAX  # the file goes on, so a line may be too long to be looked at whole
    first = 0 if start == 0 else raw.find(b"\n", 0, LINE_BYTES_MAX) + 1 or (1 if cut else size)
    line_end = raw.find(b"\n", size - 1)
    if line_end < 0:
        line_end = size - 1 if cut else len(raw)
    return raw[first : line_end + 1].decode("utf-8", errors="replace") if first < size else ""


def is_text(path: Path) -> bool:
    """Whether a file is text, as far as its beginning tells. One that can't be read is none."""
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(SNIFF_BYTES)
    except OSError:
        return False


def _walk(folder: Path, without: frozenset[str]) -> Iterator[TextFile]:
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in without and not name.startswith("."))
        for name in names:
            path = Path(base, name)
            if not name.startswith(".") and path.is_file() and (size := path.stat().st_size):
                yield TextFile(str(path.relative_to(folder)), size)


def title_of(paths: Sequence[str]) -> str:
    """A short name for some files: the only one, or the first and how many more."""
    if len(paths) == 1:
        return paths[0]
    return f"{paths[0]} to {paths[-1]} ({len(paths)} files)"
