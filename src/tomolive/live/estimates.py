"""What takes a while to find out about a scan while its reconstruction goes on: centres, and quality."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from tomolive.live.candidates import strip_of
from tomolive.live.controls import Wish
from tomolive.live.followed import Watched
from tomolive.live.publication import Publication, Strip
from tomolive.live.questions import Questions
from tomolive.live.slices.centring import Found
from tomolive.live.trends import SliceNumbers

_EARLY_EVERY_DEG = 30.0
_CENTRE, _EARLY = "the centre", "an early centre"
_QUALITY, _STRIP = "the quality of the slice", "the strip of centres"


class Estimates:
    """Asks questions about scans beside the reconstruction, and has the page show the answers.

    Parameters
    ----------
    publication
        What is shown.
    may_fail
        Guards what is done to a scan.
    """

    def __init__(
        self, publication: Publication, may_fail: Callable[[Watched], AbstractContextManager[None]]
    ) -> None:
        self._publication, self._may_fail = publication, may_fail
        self._questions = Questions()

    def poll(self) -> bool:
        """Take the answers that are there; return whether there were any."""
        return self._questions.poll()

    def close(self) -> None:
        """Forget all questions."""
        self._questions.close()

    def refine(self, watched: Watched, refined: Callable[[bool], None]) -> bool:
        """Have the centre of a scan refined with all that came; return whether that can be done.

        ``refined`` is called when it has been, with whether it moved.
        """
        question = watched.tomogram.refinement() if watched.tomogram else None
        if question is None:
            return False
        watched.refining = self._publication.retell = True

        def answered(found: Found | None) -> None:
            watched.refining, moved = False, False
            with self._may_fail(watched):
                moved = watched.tomogram is not None and watched.tomogram.take_center(found)
            self._publication.redraw |= moved
            self._publication.retell = True
            refined(moved)

        self._questions.ask(_CENTRE, watched, question, answered)
        return True

    def wait_for_centre(self, watched: Watched) -> None:
        """Wait until the centre of a scan is refined."""
        self._questions.wait(_CENTRE, watched)

    def look(self, watched: Watched) -> None:
        """Ask, now and then, for an early centre and for the quality of the slice of a scan under way."""
        tomogram = watched.tomogram
        if tomogram is None:
            return
        due = tomogram.coverage >= watched.early_asked + _EARLY_EVERY_DEG
        if due and not self._questions.asks(_EARLY, watched):
            watched.early_asked = tomogram.coverage
            if early := tomogram.early_estimate():

                def answered(found: Found | None) -> None:
                    with self._may_fail(watched):
                        self._publication.redraw |= tomogram.take_center(found, early=True)

                self._questions.ask(_EARLY, watched, early, answered)
        if not self._questions.asks(_QUALITY, watched):
            self.judge(watched)

    def judge(self, watched: Watched, *, last: bool = False) -> None:
        """Ask for the quality of the slice, if it is time, or for the last time."""
        tomogram = watched.tomogram
        if tomogram is None or (question := tomogram.quality_question(last=last)) is None:
            return

        def answered(found: SliceNumbers | None) -> None:
            tomogram.take_quality(found)
            self._publication.retell = True

        self._questions.ask(_QUALITY, watched, question, answered)

    def draw_strip(self, watched: Watched, wish: Wish, drawn: Callable[[], None]) -> None:
        """Have the candidates drawn that someone wishes to see; ``drawn`` is called when they are.

        Raises
        ------
        ReconstructionError
            if that cannot be done.
        """
        tomogram = watched.tomogram
        assert tomogram is not None  # noqa: S101  it has a picture
        assert wish.candidates is not None  # noqa: S101  that is what it asks for
        question = strip_of(tomogram.slices_of, *wish.candidates, tomogram.pixel)

        def answered(strip: Strip | None) -> None:
            if strip is None:
                watched.tell("the strip of centres could not be drawn")
            else:
                watched.candidates, watched.candidate_scores = strip.centers, strip.scores
                self._publication.show_strip(tomogram, strip)
            drawn()

        self._questions.ask(_STRIP, watched, question, answered)
