"""The protocol without sockets: messages in, answers out."""

import pytest

from tomolive.stream import messages, records
from tomolive.stream.codec import encode
from tomolive.stream.cursors import Cursors
from tomolive.stream.exchange import SILENT_SECONDS, Exchange, Limits, Rights
from tomolive.stream.journal import Journal
from tomolive.stream.messages import Position, ProtocolError
from tomolive.stream.protocol import (
    WINDOW_BYTES,
    WINDOW_DOCUMENTS,
    ConsumerSession,
    DeniedError,
    PublisherSession,
)

ALL = Rights()
PUBLISHER = b"publisher-000001"


class Talk:
    """An exchange, and the answers of its last turn."""

    def __init__(self, folder, **options) -> None:
        self.journal = Journal(folder)
        self.exchange = Exchange(self.journal, Cursors(folder), **options)

    def say(self, peer: bytes, head: bytes, blob: bytes | None = None, *, now=0.0, rights=ALL) -> list:
        """Send one message, do a turn, and return the answers to this peer."""
        self.exchange.receive(peer, [head] if blob is None else [head, blob], now, rights)
        return self.turn().get(peer, [])

    def turn(self) -> dict[bytes, list]:
        """Commit and deliver; return the answers of each peer."""
        self.exchange.commit()
        self.exchange.deliver()
        self.exchange.acknowledge()
        replies, self.exchange.replies = self.exchange.replies, []
        answers: dict[bytes, list] = {}
        for peer, head, blob in replies:
            parts = (head, blob) if blob else (head,)
            answers.setdefault(peer, []).append((messages.from_hub(*parts), blob))
        return answers


@pytest.fixture
def talk(tmp_path):
    """An exchange on an empty journal."""
    talk = Talk(tmp_path)
    yield talk
    talk.journal.close()


def recorded(documents, first: int = 1) -> list[bytes]:
    """Make the records of documents."""
    return [
        records.pack(PUBLISHER, seq, encode(name, doc), records.STARTS_RUN if name == "start" else 0)
        for seq, (name, doc) in enumerate(documents, first)
    ]


def heads(answers: list) -> list:
    """Return what was answered, without records."""
    return [head for head, _ in answers]


HELLO = messages.encode(messages.Hello(1, PUBLISHER, "me", 1))


def publish(count: int) -> bytes:
    """Return the head for so many records."""
    return messages.encode(messages.Publish(count, count))


def subscribe(start: str, name: str = "", documents: int = 1000, position: Position | None = None) -> bytes:
    """Return a subscription."""
    return messages.encode(messages.Subscribe(1, name, start, position, documents, 1 << 20))


def test_documents_are_journaled_before_they_are_acknowledged(talk, make_run):
    """Nothing is answered before the commit, and then the journal has them."""
    run = make_run(3)
    assert heads(talk.say(b"p", HELLO)) == [messages.Welcome(1, Limits().largest)]
    talk.exchange.receive(b"p", [publish(6), b"".join(recorded(run))], 0.0, ALL)
    assert talk.exchange.replies == []
    assert heads(talk.turn()[b"p"]) == [messages.Accepted(6)]
    assert talk.journal.head == 6


def test_what_comes_again_is_dropped(talk, make_run):
    """In the same connection, in a new one, and half of a batch: each document is in the journal once."""
    records_ = recorded(make_run(3))
    talk.say(b"p", HELLO)
    talk.say(b"p", publish(4), b"".join(records_[:4]))
    assert heads(talk.say(b"p", publish(4), b"".join(records_[2:]))) == [messages.Accepted(6)]
    assert heads(talk.say(b"again", HELLO)) == [messages.Welcome(7, Limits().largest)]
    assert heads(talk.say(b"again", publish(6), b"".join(records_))) == []
    assert talk.journal.head == 6
    assert talk.exchange.counts.duplicates == 8


def test_a_gap_is_not_accepted(talk, make_run):
    """The Publisher is asked to greet again, so that it sends what went astray."""
    records_ = recorded(make_run(3))
    talk.say(b"p", HELLO)
    answers = heads(talk.say(b"p", publish(4), records_[0] + b"".join(records_[3:])))
    assert answers == [messages.Unknown(), messages.Accepted(1)]
    assert talk.journal.head == 1


def test_a_refused_document_is_acknowledged_and_left_out(talk, make_run):
    """The Publisher hears which and why, and does not send it for ever."""
    run = make_run(3)
    run[3][1]["seq_num"] = "two"
    talk.say(b"p", HELLO)
    refused, accepted = heads(talk.say(b"p", publish(6), b"".join(recorded(run))))
    assert (refused.seq, refused.document, refused.uid) == (4, "event", run[3][1]["uid"])
    assert accepted == messages.Accepted(6)
    assert talk.journal.head == 5


def test_a_refusals_uid_is_short(tmp_path, make_run):
    """A uid as long as a message does not fill the log of refused documents."""
    refused = []
    talk = Talk(tmp_path, on_refused=refused.append)
    talk.say(b"p", HELLO)
    talk.say(b"p", publish(1), recorded([("stop", {"uid": "u" * 100_000})])[0])
    talk.exchange.take_stock("stop", {"uid": "u" * 100_000})
    assert [len(refusal.uid) for refusal in refused] == [200, 200]
    talk.journal.close()


def test_a_start_document_must_be_flagged_as_one(talk, make_run):
    """Otherwise the index of runs could be led astray."""
    talk.say(b"p", HELLO)
    hidden = records.pack(PUBLISHER, 1, encode(*make_run(0)[0]))
    refused, _ = heads(talk.say(b"p", publish(1), hidden))
    assert "flags" in refused.reason


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [b"\x91\x01"],
        [HELLO, b"more"],
        [publish(1)],
        [publish(1), b"no record at all"],
        [publish(1), recorded([("start", {"uid": "u", "time": 1.0})])[0][:-1] + b"!"],
        [messages.encode(messages.Hello(99, PUBLISHER, "me", 1))],
        [subscribe("cursor")],
        [subscribe("no such run")],
        [messages.encode(messages.Pong(1))],
    ],
)
def test_nonsense_is_denied(talk, parts):
    """With a reason, and without an exception."""
    talk.say(b"p", HELLO)
    talk.exchange.receive(b"p", parts, 0.0, ALL)
    (denied,) = heads(talk.turn()[b"p"])
    assert isinstance(denied, messages.Denied)
    assert denied.reason


def test_records_of_another_publisher_are_denied(talk, make_run):
    """Nobody can use up the numbers of someone else."""
    talk.say(b"p", messages.encode(messages.Hello(1, b"another one's id", "thief", 1)))
    (denied,) = heads(talk.say(b"p", publish(1), recorded(make_run(0))[0]))
    assert "another publisher" in denied.reason
    assert talk.journal.head == 0


def test_a_publisher_that_waits_for_nothing_is_denied(tmp_path, make_run):
    """Who sends far more than the window without an acknowledgement in between is cut off, alone."""
    talk = Talk(tmp_path, limits=Limits(largest=1 << 20))
    talk.say(b"p", HELLO)
    start = make_run(0, note="x" * (1 << 20))[0]
    blob = recorded([start])[0]
    for _ in range(2 * WINDOW_BYTES // len(blob)):
        talk.exchange.receive(b"p", [publish(1), blob], 0.0, ALL)
    assert heads(talk.turn()[b"p"]) == [messages.Accepted(1)]
    for _ in range(2 * WINDOW_BYTES // len(blob) + 2):
        talk.exchange.receive(b"p", [publish(1), blob], 0.0, ALL)
    denied, *_ = heads(talk.turn()[b"p"])
    assert "without waiting" in denied.reason
    assert talk.journal.head == 1
    talk.journal.close()


def test_credit_bounds_what_is_under_way(talk, make_run):
    """No more documents than the consumer allows, until it acknowledges."""
    run = make_run(50)
    talk.say(b"p", HELLO)
    talk.say(b"p", publish(len(run)), b"".join(recorded(run)))
    (_, _), (first, blob) = talk.say(b"c", subscribe("all", documents=10))
    assert (first.offset, first.count) == (0, 10)
    assert len(list(records.walk(blob))) == 10
    assert talk.turn() == {}
    ((second, _),) = talk.say(b"c", messages.encode(messages.Acknowledge(4)))
    assert (second.offset, second.count) == (10, 4)


def test_crumbs_of_credit_are_gathered(talk, make_run):
    """A slow consumer gets a quarter of its credit at a time, or all that waits."""
    run = make_run(98)  # 101 documents
    talk.say(b"p", HELLO)
    talk.say(b"p", publish(len(run)), b"".join(recorded(run)))
    talk.say(b"c", subscribe("all", documents=40))
    assert talk.say(b"c", messages.encode(messages.Acknowledge(9))) == []
    ((more, _),) = talk.say(b"c", messages.encode(messages.Acknowledge(10)))
    assert (more.offset, more.count) == (40, 10)
    ((more, _),) = talk.say(b"c", messages.encode(messages.Acknowledge(50)))
    assert (more.offset, more.count) == (50, 40)
    assert talk.say(b"c", messages.encode(messages.Acknowledge(59))) == []
    ((rest, _),) = talk.say(b"c", messages.encode(messages.Acknowledge(90)))
    assert (rest.offset, rest.count) == (90, len(run) - 90)


def test_a_consumer_that_resumes_moves_its_cursor(talk, make_run):
    """What a killed hub had not saved of a cursor, the consumer's position brings back."""
    run = make_run(50)
    talk.say(b"p", HELLO)
    talk.say(b"p", publish(len(run)), b"".join(recorded(run)))
    epoch = talk.journal.epochs.current
    talk.exchange.cursors.set("archive", Position(epoch, 20))
    talk.say(b"c", subscribe("cursor", "archive", position=Position(epoch, 40)))
    talk.say(b"c", messages.encode(messages.Bye()))
    (subscribed, _), *_ = talk.say(b"again", subscribe("cursor", "archive"))
    assert subscribed.position == Position(epoch, 40)


@pytest.mark.parametrize("left", range(1, 41))
def test_every_delivery_holds_a_document(talk, make_run, left):
    """Also when only a few bytes of the credit are left: none, or a whole record."""
    run = make_run(20)
    blobs = recorded(run)
    talk.say(b"p", HELLO)
    talk.say(b"p", publish(len(run)), b"".join(blobs))
    credit = len(b"".join(blobs[:5])) + left
    talk.exchange.receive(
        b"c", [messages.encode(messages.Subscribe(1, "", "all", None, 1000, credit))], 0.0, ALL
    )
    answers = [answer for _ in range(5) for answer in talk.turn().get(b"c", [])]
    delivered = [head for head, _ in answers if isinstance(head, messages.Deliver)]
    assert [head.count for head in delivered] == [5, 1]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [messages.encode(messages.Deliver(0, 1, 1))],
        [messages.encode(messages.Deliver(0, 1, 1)), b"records", b"more"],
        [messages.encode(messages.Pong(1)), b"more"],
    ],
)
def test_what_the_hub_says_has_its_parts(parts):
    """A delivery without records, or an answer with more than belongs to it, is not the protocol."""
    with pytest.raises(ProtocolError):
        messages.from_hub(*parts)


def test_unknown_peers_are_asked_who_they_are(talk):
    """After a restart of the hub every client hears this first."""
    for head, blob in [(publish(0), b""), (messages.encode(messages.Acknowledge(0)), None)]:
        assert heads(talk.say(b"x", head, blob)) == [messages.Unknown()]
    assert heads(talk.say(b"x", messages.encode(messages.Ping()))) == [messages.Unknown()]


def test_the_silent_are_forgotten(talk):
    """And have to say again who they are."""
    talk.say(b"p", HELLO, now=0.0)
    talk.say(b"c", subscribe("new"), now=SILENT_SECONDS)
    talk.exchange.forget_silent(SILENT_SECONDS + 1)
    assert not talk.exchange.publishers
    assert list(talk.exchange.consumers) == [b"c"]


def test_too_many_peers_are_denied_alone(tmp_path):
    """The limit keeps newcomers out and leaves those who are in."""
    talk = Talk(tmp_path, limits=Limits(peers=2))
    for peer in (b"a", b"b"):
        talk.say(peer, subscribe("new"))
    (denied,) = heads(talk.say(b"c", subscribe("new")))
    assert "limit" in denied.reason
    assert len(talk.exchange.consumers) == 2
    assert isinstance(heads(talk.say(b"a", subscribe("new")))[0], messages.Subscribed)
    talk.journal.close()


def test_names_are_limited(tmp_path):
    """Nobody can fill the hub's memory with cursors; the names that are known go on."""
    talk = Talk(tmp_path, limits=Limits(cursors=1))
    talk.say(b"a", subscribe("all", name="first"))
    talk.say(b"a", messages.encode(messages.Acknowledge(0)))
    (denied,) = heads(talk.say(b"b", subscribe("all", name="second")))
    assert "limit" in denied.reason
    assert isinstance(heads(talk.say(b"b", subscribe("all", name="first")))[0], messages.Subscribed)
    talk.journal.close()


def test_the_publisher_keeps_a_window(make_run):
    """It sends no more than the window, goes on when that is accepted, and begins anew after a break."""
    session = PublisherSession(PUBLISHER, "me")
    assert session.room == 0
    session.receive(messages.encode(messages.Welcome(5, 1000)))
    assert (session.next, session.room) == (5, WINDOW_DOCUMENTS)
    session.publish(WINDOW_DOCUMENTS, 1000, 0)
    assert session.room == 0
    session.receive(messages.encode(messages.Accepted(14)))
    assert session.room == 10
    session.receive(messages.encode(messages.Unknown()))
    assert session.room == 0
    session.receive(messages.encode(messages.Welcome(15, 1000)))
    assert session.next == 15
    session.receive(messages.encode(messages.Accepted(9999)))
    assert session.accepted == 14, "an answer to an earlier connection"


def test_the_publisher_minds_bytes_too():
    """Large documents fill the window before their number does."""
    session = PublisherSession(PUBLISHER, "me")
    session.receive(messages.encode(messages.Welcome(1, 1 << 30)))
    session.publish(1, 1 << 30, 0)
    assert session.room == 0
    session.receive(messages.encode(messages.Accepted(1)))
    assert session.room == WINDOW_DOCUMENTS


def test_the_consumer_takes_no_gap():
    """A delivery that does not follow on makes it subscribe again from where it is."""
    session = ConsumerSession("", "all", None)
    session.receive(messages.encode(messages.Subscribed(Position("e", 3), 9, 0)))
    assert session.receive(messages.encode(messages.Deliver(3, 2, 9)), b"records") is not None
    assert session.receive(messages.encode(messages.Deliver(7, 1, 9)), b"records") is None
    assert not session.subscribed
    assert session.position == Position("e", 5)
    session.receive(messages.encode(messages.Subscribed(Position("e", 5), 9, 0)))
    assert session.receive(messages.encode(messages.Deliver(8, 1, 9, lost=3)), b"records") is not None
    assert session.position == Position("e", 9)


def test_a_loss_that_is_told_twice_is_one_loss():
    """The second answer to a question does not lead back either when the hub no longer has all documents."""
    session = ConsumerSession("name", "cursor", Position("e", 3))
    answer = messages.encode(messages.Subscribed(Position("e", 7), 12, 4))
    assert session.receive(answer) is not None
    assert session.receive(messages.encode(messages.Deliver(7, 2, 12)), b"")
    assert session.receive(answer) is None  # nor is the loss told again
    assert session.position == Position("e", 9)
    assert session.subscribed


def test_a_question_that_is_answered_twice_leads_neither_back_nor_on():
    """A hub that was away finds two questions: its second answer repeats and skips no document."""
    session = ConsumerSession("name", "cursor", Position("e", 3))
    answer = messages.encode(messages.Subscribed(Position("e", 3), 9, 0))
    first = messages.encode(messages.Deliver(3, 2, 9))
    session.receive(answer)
    assert session.receive(first, b"")
    session.receive(answer)
    assert session.position == Position("e", 5)
    assert session.receive(first, b"") is None  # what it has is not taken again
    assert not session.subscribed  # it asks again from where it is
    session.receive(messages.encode(messages.Subscribed(Position("e", 9), 9, 0)))
    assert session.position == Position("e", 5)  # the answer to "new documents only", given twice


def test_a_hub_that_lost_documents_says_where_to_go_on():
    """Fewer documents than before, or another epoch: the hub's word counts."""
    session = ConsumerSession("name", "cursor", Position("e", 9))
    session.receive(messages.encode(messages.Subscribed(Position("e", 4), 4, 5)))
    assert session.position == Position("e", 4)
    session.receive(messages.encode(messages.Subscribed(Position("f", 2), 4, 0)))
    assert session.position == Position("f", 2)


def test_a_denied_client_raises():
    """With the hub's reason."""
    for session in (PublisherSession(PUBLISHER, ""), ConsumerSession("", "new", None)):
        with pytest.raises(DeniedError, match="not you"):
            session.receive(messages.encode(messages.Denied("not you")))
        with pytest.raises(ProtocolError):
            session.receive(b"\xc1")
