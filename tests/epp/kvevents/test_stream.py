from __future__ import annotations

from services.epp.kvevents.stream import Counts, MessageStream


class Seen:
    """What a stream made of its messages: payloads, and `whole` or `anew` where a view began."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.stream = MessageStream(
            lambda payload: self.log.append(payload.decode()),
            lambda whole: self.log.append("whole" if whole else "anew"),
        )

    def live(self, *numbers: int, process: str = "a") -> None:
        for number in numbers:
            self.stream.live(number, f"{process}{number}".encode())

    def replay(self, *numbers: int, process: str = "a", complete: bool = True) -> None:
        for number in numbers:
            self.stream.replayed(number, f"{process}{number}".encode())
        self.stream.ended(complete=complete)


def joined(*numbers: int) -> Seen:
    """Return a stream that has seen these from the first on."""
    seen = Seen()
    seen.replay(*numbers)
    assert seen.stream.asking is None
    return seen


def test_a_subscriber_that_comes_late_learns_the_beginning_by_replay():
    """What is published meanwhile waits, and what comes twice counts once."""
    seen = Seen()
    assert seen.stream.asking == 0
    seen.live(2, 3)
    seen.replay(0, 1, 2)
    assert seen.log == ["whole", "a0", "a1", "a2", "a3"]
    assert seen.stream.asking is None


def test_a_server_that_never_told_anything_holds_nothing():
    """An empty replay says that."""
    assert joined().log == ["whole"]


def test_without_a_replay_the_first_message_begins_a_partial_view():
    """Unless it is the very first of all."""
    late, early = Seen(), Seen()
    for seen in (late, early):
        seen.replay(complete=False)
    late.live(7)
    late.replay(complete=False)
    late.live(8)
    early.live(0, 1)
    assert late.log == ["anew", "a7", "a8"]
    assert early.log == ["whole", "a0", "a1"]


def test_a_replay_that_no_longer_reaches_back_begins_a_partial_view():
    """The server keeps the last messages only."""
    seen = Seen()
    seen.live(9)
    seen.replay(5, 6, 7, 8)
    assert seen.log == ["anew", "a5", "a6", "a7", "a8", "a9"]
    assert seen.stream.counts == Counts(lost=1)


def test_a_gap_is_filled_by_a_replay():
    """It is asked for from the last message on, to see that it is the same process."""
    seen = joined(0, 1)
    seen.live(4, 5)
    assert seen.stream.asking == 1
    seen.replay(1, 2, 3, 4)
    assert seen.log == ["whole", "a0", "a1", "a2", "a3", "a4", "a5"]
    assert seen.stream.counts == Counts(gaps=1)


def test_a_gap_that_nothing_fills_is_told():
    """A view with a hole would say what is not so."""
    seen = joined(0, 1)
    seen.live(4)
    seen.replay(complete=False)
    seen.live(5)
    assert seen.log == ["whole", "a0", "a1", "anew", "a4", "a5"]
    assert seen.stream.counts == Counts(gaps=1, lost=1)


def test_a_replay_with_a_hole_is_asked_for_again_as_long_as_it_helps():
    """A full socket drops messages of a replay too."""
    seen = joined(0)
    seen.live(6)
    seen.replay(0, 1, 2, 5, 6)
    assert seen.stream.asking == 2
    seen.replay(2, 3, 4, 5, 6)
    assert seen.log == ["whole", *(f"a{number}" for number in range(7))]
    seen.live(9)
    seen.replay(6)
    assert seen.log[-2:] == ["anew", "a9"]


def test_a_number_that_goes_back_is_a_restart():
    """The new process has an empty cache; its view is whole from its first message on."""
    seen = joined(0, 1, 2)
    seen.live(3)
    seen.live(0, 1, process="b")
    assert seen.stream.asking == 0
    seen.replay(0, 1, process="b")
    seen.live(2, process="b")
    assert seen.log == ["whole", "a0", "a1", "a2", "a3", "anew", "whole", "b0", "b1", "b2"]
    assert seen.stream.counts.restarts == 1


def test_a_restart_that_nobody_saw_shows_in_the_replay():
    """After a lost connection the new process may have come further than the old one."""
    seen = joined(0, 1)
    seen.live(5, process="b")
    seen.replay(1, 2, 3, 4, 5, process="b")
    assert seen.stream.asking == 0
    seen.replay(0, 1, 2, 3, 4, 5, process="b")
    assert seen.log == ["whole", "a0", "a1", "anew", "whole", "b0", "b1", "b2", "b3", "b4", "b5"]


def test_a_check_brings_a_last_message_that_was_lost():
    """No later one shows that it is missing."""
    seen = joined(0)
    seen.stream.check()
    assert seen.stream.asking == 0
    seen.replay(0, 1)
    seen.stream.check()
    seen.replay(1)
    assert seen.log == ["whole", "a0", "a1"]
    assert seen.stream.asking is None


def test_a_check_that_nobody_can_answer_changes_nothing():
    """What was told stays true as far as is known."""
    seen = joined(0)
    seen.stream.check()
    seen.replay(complete=False)
    assert seen.log == ["whole", "a0"]


def test_a_check_shows_a_restart_of_a_server_that_has_told_nothing_since():
    """It would have to know its own last message."""
    seen = joined(0, 1)
    seen.stream.check()
    seen.replay()
    assert seen.stream.asking == 0
    seen.replay()
    assert seen.log == ["whole", "a0", "a1", "anew", "whole"]
    assert seen.stream.counts.restarts == 1


def test_what_comes_after_a_replay_was_given_up_changes_nothing():
    """A late answer is no news."""
    seen = joined(0)
    seen.stream.replayed(1, b"late")
    assert seen.log == ["whole", "a0"]
