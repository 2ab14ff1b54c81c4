"""The chain: followed back only as far as needed, however it grows and loses its oldest segments meanwhile."""

from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.log.chain import Chain


@dataclass
class Link:
    first: int
    count: int
    previous: int


@given(st.integers(0, 2**32))
def test_every_seq_is_found_in_its_segment(seed):
    random = Random(seed)
    links: dict[int, Link] = {}
    head, newest, oldest = 0, 0, 1
    chain = Chain()
    for number in range(1, 30):
        if random.random() < 0.6:
            count = random.randint(0, 5)
            links[number] = Link(head + 1, count, newest)
            newest, head = number, head + count
        if random.random() < 0.2:
            oldest = random.randint(oldest, number)
            links = {n: link for n, link in links.items() if n >= oldest}
        if not newest or random.random() < 0.4:
            continue
        seq = random.randint(1, head + 1)
        chain.drop_before(oldest)
        chain.reach(newest, seq, links.get)
        position = chain.position(seq)
        there = [n for n, link in links.items() if link.first <= seq < link.first + link.count]
        if there:
            assert chain.numbers[position] == there[0]
        assert chain.numbers == sorted(chain.numbers)
        assert chain.firsts == sorted(chain.firsts)
