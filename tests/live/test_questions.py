"""Questions that take a while, answered beside the reconstruction."""

import threading

import pytest

from tomolive.live.questions import Questions


@pytest.fixture
def questions():
    """Their thread waits until ``go`` is set."""
    asked, go = Questions(), threading.Event()
    asked.ask("nothing", None, lambda: go.wait(60), lambda _: None)
    yield asked, go
    go.set()
    asked.close()


def test_whoever_asked_before_gets_the_newest_answer(questions):
    """A question that is asked again is worked out once; nobody waits for ever."""
    asked, go = questions
    answers = []
    for number in range(3):
        asked.ask(
            "the centre", "scan", lambda number=number: number, lambda a, n=number: answers.append((n, a))
        )
    assert asked.asks("the centre", "scan")
    go.set()
    asked.wait("the centre", "scan")
    assert answers == [(0, 2), (1, 2), (2, 2)]
    assert not asked.asks("the centre", "scan")


def test_the_same_question_about_two_scans(questions):
    """Each gets its own answer."""
    asked, go = questions
    answers = {}
    for scan in ("one", "other"):
        asked.ask("quality", scan, scan.upper, lambda a, scan=scan: answers.update({scan: a}))
    go.set()
    for scan in ("one", "other"):
        asked.wait("quality", scan)
    assert answers == {"one": "ONE", "other": "OTHER"}


def test_a_question_that_fails_is_answered(questions):
    """With nothing: the reconstruction is right without it."""
    asked, go = questions
    answers = []
    asked.ask("quality", "scan", lambda: 1 / 0, answers.append)
    go.set()
    asked.wait("quality", "scan")
    assert answers == [None]
