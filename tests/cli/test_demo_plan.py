"""Which text is read, by whom, and how many messages that makes."""

import random
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.cli.demonstration.corpus import (
    LINE_BYTES_MAX,
    Corpus,
    TextFile,
    library,
    of_folder,
    read_piece,
    sample,
    title_of,
)
from hubbub_broker.cli.demonstration.plan import (
    Conversation,
    TooLittleText,
    convene,
    conversation_of,
    pieces_of,
    spans,
    split_roles,
)
from hubbub_broker.cli.demonstration.research import research
from hubbub_broker.cli.demonstration.roles import Analyst, Heard, Post, Role, Synthesizer, expected_messages
from hubbub_protocol.names import check_agent, check_topic

HERE = Path("nowhere")

sizes = st.lists(st.integers(1, 5000), min_size=1, max_size=20)


def corpus_of(*lengths: int) -> Corpus:
    return Corpus(HERE, tuple(TextFile(f"{number}.txt", size) for number, size in enumerate(lengths)))


# The corpus


def test_the_library_is_text_that_is_there() -> None:
    found = library()
    names = {file.path for file in found.files}
    assert {"os.py", "asyncio/events.py"} <= names
    assert not any("/test/" in f"/{name}" or "site-packages" in name for name in names)
    assert found.size > 5_000_000
    assert list(found.files) == sorted(found.files, key=lambda file: file.path)


def test_a_folder_is_its_text_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "deep" / "a.md").write_text("some text\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "empty.txt").touch()
    (tmp_path / ".hidden" / "b.txt").write_text("not this\n")
    (tmp_path / ".c.txt").write_text("nor this\n")
    assert of_folder(tmp_path).files == (TextFile("deep/a.md", 10),)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        of_folder(tmp_path / "nowhere")


@given(sizes, st.integers(1, 20_000), st.integers())
def test_a_sample_is_as_large_as_wanted(lengths: list[int], most: int, seed: int) -> None:
    whole = corpus_of(*lengths)
    drawn = sample(whole, most, random.Random(seed))
    assert drawn.size == min(whole.size, most)
    assert {file.path for file in drawn.files} <= {file.path for file in whole.files}
    assert drawn == sample(whole, most, random.Random(seed))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages") / "page.txt"


@given(
    lines=st.lists(st.text(alphabet="ab ö", max_size=60), min_size=1, max_size=40),
    size=st.integers(1, 50),
    ends=st.booleans(),
)
def test_each_line_is_in_exactly_one_piece(page: Path, lines: list[str], size: int, ends: bool) -> None:
    text = "\n".join(lines) + ("\n" if ends else "")
    page.write_text(text, encoding="utf-8")
    length = page.stat().st_size
    pieces = [read_piece(page, start, min(start + size, length)) for start in range(0, length, size)]
    assert "".join(pieces) == text
    begins = {0} | {at + 1 for at, byte in enumerate(text.encode()) if byte == ord("\n")}
    for number, piece in enumerate(pieces):
        assert bool(piece) == any(number * size <= begin < min((number + 1) * size, length) for begin in begins)


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (10 * LINE_BYTES_MAX))
    assert len(read_piece(path, 0, 800)) == 800
    assert len(read_piece(path, 800, 1600)) == 800


def test_titles() -> None:
    assert title_of(["a.txt"]) == "a.txt"
    assert title_of(["a.txt", "b.txt", "c.txt"]) == "a.txt to c.txt (3 files)"


# The plan


@given(sizes, st.integers(1, 12))
def test_conversations_share_the_text_without_holes(lengths: list[int], parts: int) -> None:
    corpus = corpus_of(*lengths)
    borders = [corpus.size * number // parts for number in range(parts + 1)]
    found = [span for first, end in pairwise(borders) for span in spans(corpus, first, end)]
    covered = {(span["file"], byte) for span in found for byte in range(span["start"], span["end"])}
    assert len(covered) == sum(span["end"] - span["start"] for span in found) == corpus.size


@pytest.mark.parametrize(
    ("members", "researchers", "analysts"), [(3, 1, 1), (4, 2, 1), (5, 2, 2), (6, 3, 2), (10, 5, 4)]
)
def test_roles(members: int, researchers: int, analysts: int) -> None:
    assert split_roles(members) == (researchers, analysts)
    assert researchers + analysts + 1 == members


def test_a_thousand_agents_in_two_hundred_conversations() -> None:
    plan = convene(corpus_of(*[4000] * 1000), agents=1000, conversations=200)
    members = [member for conversation in plan for member in conversation.members]
    assert len(plan) == len({conversation.topic for conversation in plan}) == 200
    assert len(members) == len(set(members)) == 1000
    assert {len(conversation.members) for conversation in plan} == {5}
    assert len({conversation.topic.partition("/")[0] for conversation in plan}) == 20
    assert sum(conversation.pieces for conversation in plan) == 4_000_000 // 800
    for conversation in plan:
        check_topic(conversation.topic)
        for member in conversation.members:
            check_agent(member)


def test_agents_that_do_not_divide_evenly_are_all_there() -> None:
    plan = convene(corpus_of(100_000), agents=17, conversations=4)
    assert sorted(len(conversation.members) for conversation in plan) == [4, 4, 4, 5]


def test_little_text_makes_small_pieces() -> None:
    (conversation,) = convene(corpus_of(1200), agents=3, conversations=1)
    assert conversation.task["piece_bytes"] == 300
    assert list(pieces_of(conversation.task)) == [("0.txt", at, at + 300) for at in (0, 300, 600, 900)]


def test_too_little_text_says_what_it_would_do_for() -> None:
    with pytest.raises(TooLittleText, match=r"holds 700 bytes of text in 2 files.*--conversations 3 --agents 15"):
        convene(corpus_of(300, 400), agents=50, conversations=10)
    with pytest.raises(TooLittleText, match="holds 0 bytes of text in 0 files"):
        convene(corpus_of(), agents=5, conversations=1)


def test_each_researcher_has_one_analyst() -> None:
    (conversation,) = convene(corpus_of(10_000), agents=12, conversations=1)
    shares = [conversation.researchers_of(analyst) for analyst in conversation.analysts]
    assert sorted(name for share in shares for name in share) == sorted(conversation.researchers)


def test_a_conversation_survives_json() -> None:
    import json

    (conversation,) = convene(corpus_of(10_000, 500), agents=6, conversations=1)
    assert conversation_of(json.loads(json.dumps(asdict(conversation)))) == conversation


# The conversation itself, without a broker


def converse(conversation: Conversation, chance: random.Random) -> list[Heard]:
    """Everything that is said, each member hearing it in the topic's order, and at a pace of its own."""
    roles: dict[str, Role] = {name: Analyst(conversation.researchers_of(name)) for name in conversation.analysts}
    roles[conversation.synthesizer] = Synthesizer("title", frozenset(conversation.analysts))
    log = [Heard("task", "task", conversation.synthesizer, {})]
    places = dict.fromkeys(roles, 0)
    todo: dict[str, list[Post]] = {}
    pieces = list(pieces_of(conversation.task))
    for number, name in enumerate(conversation.researchers):
        share = pieces[number :: len(conversation.researchers)]
        found = [Post("finding", research(file, start, "cursor broker"), "task") for file, start, _ in share]
        todo[name] = [*found, Post("done", {"pieces": len(found)}, "task")]
    while True:
        speakers = [name for name, posts in todo.items() if posts]
        hearers = [name for name, place in places.items() if place < len(log)]
        if not speakers and not hearers:
            return log
        name = chance.choice(speakers + hearers)
        if name in todo:
            posts = [todo[name].pop(0)]
        else:
            posts = roles[name].hear(log[places[name]])
            places[name] += 1
        log += [Heard(post.kind, f"m{len(log) + k}", name, post.data) for k, post in enumerate(posts)]


@given(st.integers(0, 60), st.integers(3, 9), st.randoms(use_true_random=False))
def test_a_conversation_has_as_many_messages_as_planned_and_ends_with_its_section(
    pieces: int, members: int, chance: random.Random
) -> None:
    (conversation,) = convene(corpus_of(max(1, pieces) * 800), agents=members, conversations=1)
    log = converse(conversation, chance)
    assert len(log) == conversation.messages
    assert [heard.kind for heard in log].count("section") == 1
    assert log[-1].kind == "section"
    assert log[-1].data["findings"] == conversation.pieces


def test_the_parents_are_what_is_answered() -> None:
    analyst = Analyst(frozenset({"r"}))
    finding = research("a.txt", 0, "cursor")
    posts = [post for k in range(5) for post in analyst.hear(Heard("finding", f"f{k}", "r", finding))]
    assert [(post.kind, post.parent) for post in posts] == [
        *(("assessment", f"f{k}") for k in range(5)),
        ("analysis", "f4"),
    ]
    assert analyst.hear(Heard("finding", "f9", "somebody else", finding)) == []
    (last,) = analyst.hear(Heard("done", "d", "r", {"pieces": 5}))
    assert (last.kind, last.parent, last.data["last"], last.data["findings"]) == ("analysis", "d", True, 0)


def test_expected_messages_by_hand() -> None:
    # task, 10 findings, 1 done, 10 assessments, 2 full analyses and the last, no draft (2 analyses before), section
    assert expected_messages(10, 1, 1) == 1 + 10 + 1 + 10 + 3 + 0 + 1
    # nothing to read: the task, a done, an empty analysis of each analyst, the section
    assert expected_messages(0, 2, 2) == 1 + 2 + 2 + 1
