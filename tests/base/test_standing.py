"""A child that stays: the same answers as a fresh one, whatever happens to it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from npu_guard.base import sandbox
from npu_guard.base.standing import SMALL, Standing


def work(content: bytes) -> bytes:
    """The number of the process, and what it was given; some words do harm."""
    if content == b"raise":
        raise ValueError("no")
    if content == b"die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if content == b"spin":
        while True:
            pass
    if content == b"swell":
        return bytes(4 << 30)
    return b"%d %s" % (os.getpid(), content)


@pytest.fixture
def standing() -> Iterator[Standing]:
    made = Standing(work)
    yield made
    made.end()


def answered(standing: Standing, content: bytes) -> sandbox.Outcome:
    with standing.ask(content) as child:
        return child.result()


def process(outcome: sandbox.Outcome) -> bytes:
    assert outcome.status == "ok"
    return outcome.data.split()[0]


def test_one_child_answers(standing: Standing) -> None:
    first, second = answered(standing, b"a"), answered(standing, b"b")
    assert first.data.endswith(b" a")
    assert second.data.endswith(b" b")
    assert process(first) == process(second) != b"%d" % os.getpid()
    assert answered(standing, b"raise") == sandbox.Outcome("error", b"no")
    assert process(answered(standing, b"c")) == process(first)


def test_it_keeps_nothing_open(standing: Standing) -> None:
    """A pipe ends when the process closes it, whatever children it has by then."""
    read_end, write_end = os.pipe()
    process(answered(standing, b"a"))
    os.close(write_end)
    assert select.select([read_end], [], [], 300)[0]
    assert os.read(read_end, 1) == b""
    os.close(read_end)


@pytest.mark.parametrize(("word", "status"), [(b"die", "crash"), (b"spin", "timeout"), (b"swell", "memory")])
def test_what_it_does_not_survive_is_the_verdict_of_a_fresh_one(
    standing: Standing, word: bytes, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.3 if status == "timeout" else 60.0
    monkeypatch.setattr(sandbox, "SECONDS", seconds)
    monkeypatch.setattr(sandbox, "run", lambda call: sandbox.Child(call, seconds).__enter__().result())
    before = process(answered(standing, b"a"))
    assert answered(standing, word).status == status
    assert process(answered(standing, b"a")) != before


@pytest.mark.parametrize(("word", "status"), [(b"die", "crash"), (b"spin", "timeout"), (b"swell", "memory")])
def test_the_first_request_is_not_repeated(standing: Standing, word: bytes, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child was fresh, so what it came to holds; a model that takes all its time would take it twice."""
    monkeypatch.setattr(sandbox, "SECONDS", 0.3 if status == "timeout" else 60.0)
    monkeypatch.setattr(sandbox, "run", None)
    assert answered(standing, word) == sandbox.Outcome(status, b"")
    assert answered(standing, b"b").data.endswith(b" b")


def test_one_that_is_let_go_ends(standing: Standing) -> None:
    """And the next request has another."""
    own = int(process(answered(standing, b"a")))
    with standing.ask(b"b") as child:
        standing.rest()  # not before it has answered
        assert int(process(child.result())) == own
    standing.rest()
    sandbox.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(own, 0)
    assert int(process(answered(standing, b"c"))) != own


def test_one_that_died_meanwhile(standing: Standing) -> None:
    os.kill(int(process(answered(standing, b"a"))), signal.SIGKILL)
    assert answered(standing, b"b").data.endswith(b" b")


def test_answers_go_to_those_who_asked(standing: Standing) -> None:
    with standing.ask(b"outer") as outer, standing.ask(b"inner") as inner:
        assert inner.result().data.endswith(b" inner")
        assert outer.result().data.endswith(b" outer")
    with standing.ask(b"nobody wants this"):
        pass
    assert answered(standing, b"next").data.endswith(b" next")


def test_what_is_large_has_a_child_of_its_own(standing: Standing) -> None:
    own = process(answered(standing, b"a"))
    assert process(answered(standing, bytes(SMALL + 1))) != own == process(answered(standing, b"b"))


def test_a_fork_of_ours_has_one_of_its_own(standing: Standing) -> None:
    own = process(answered(standing, b"a"))
    there = sandbox.run(lambda: process(answered(standing, b"a")) + b"|" + process(answered(standing, b"b")))
    first, second = there.data.split(b"|")
    assert own not in (first, second)
    assert process(answered(standing, b"c")) == own
