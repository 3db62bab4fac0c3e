"""The master of a crew: gives rows of each field to workers, and hears what they report."""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence

from tomolive.config import LiveSettings
from tomolive.live.crew.engines import Answer, Engine
from tomolive.live.crew.messages import Report, Share, Source
from tomolive.live.crew.post import Post
from tomolive.live.crew.team import Team, taken
from tomolive.live.documents.fields import Field, bands
from tomolive.live.documents.rules import Rules
from tomolive.live.documents.run import Scan
from tomolive.live.snapshot import WorkerShare

log = logging.getLogger(__name__)

_ASK_EVERY_S = 0.2
_MOST_LOST = 5
"""Workers that one share may cost before it is given up."""


class Crew:
    """The reconstruction of one scan by several workers.

    The rows of each field are cut into as many bands as there are workers. One band of each field, the one in
    the middle, finds the rotation centre; the others follow it.

    Parameters
    ----------
    scan
        What is known of the run.
    fields
        Cameras, or several together, by name.
    source, rules
        What each worker reads documents and frames with.
    engine
        Who the workers are.
    settings
        Centre, filter, corrections; ``memory_mb`` is what each worker may use.

    Raises
    ------
    ReconstructionError
        if a field cannot be reconstructed with these settings.
    """

    def __init__(
        self,
        scan: Scan,
        fields: Mapping[str, Field],
        *,
        source: Source,
        engine: Engine,
        settings: LiveSettings,
        rules: Sequence[Rules] = (),
    ) -> None:
        self._engine = engine
        self.teams: dict[str, Team] = {}
        """By the names of their fields."""
        crew, memory = uuid.uuid4().hex, max(1, settings.memory_mb // len(fields))
        settings = settings.model_copy(update={"memory_mb": memory})
        for name, field in fields.items():
            rows, columns = field.shape
            cut = bands(rows, engine.size)
            posts = []
            for number, own in enumerate(cut):
                leads = number == len(cut) // 2
                # those who follow begin somewhere, until the one that leads has found the centre
                middle = (columns - 1) / 2 if settings.center is None and not leads else settings.center
                share = Share(
                    scan.run_uid, field, own, taken(own, rows, settings.corrections), source, tuple(rules),
                    settings.model_copy(update={"center": middle}), leads, crew,
                )  # fmt: skip
                posts.append(Post(share, number))
            self.teams[name] = Team(field, posts, settings, scan)

    def step(self) -> set[str]:
        """Ask workers and hear their answers; return the fields of which there is news."""
        news: set[str] = set()
        if self._engine.trouble:
            for post in (post for team in self.teams.values() for post in team.posts):
                post.answer = None  # whatever comes of it
            return news
        for name, team in self.teams.items():
            for post in team.posts:
                if post.answer is not None and post.answer.done():
                    answer, post.answer = post.answer, None
                    if self._hear(team, post, answer):
                        news.add(name)
                failed = post.report is not None and post.report.failure
                if post.answer is None and not failed and time.monotonic() - post.asked > _ASK_EVERY_S:
                    post.asked, post.orders = time.monotonic(), team.orders(post)
                    post.answer = self._engine.ask(post.number, post.share, post.orders)
        return news

    @property
    def workers(self) -> tuple[WorkerShare, ...]:
        """Who does what."""
        return tuple(worker for team in self.teams.values() for worker in team.workers)

    @property
    def replaced(self) -> int:
        """How often a share was begun anew because its worker had died."""
        return sum(team.began_anew for team in self.teams.values())

    @property
    def trouble(self) -> str:
        """Why nothing goes on now, and what to do; empty if it does."""
        return self._engine.trouble

    @property
    def is_done(self) -> bool:
        """Whether every share of every field is final, with what is in force."""
        return all(team.is_done for team in self.teams.values())

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return all(team.is_over for team in self.teams.values())

    @property
    def failure(self) -> str:
        """Why a field cannot go on, or an empty string."""
        return next((team.failure for team in self.teams.values() if team.failure), "")

    def _hear(self, team: Team, post: Post, answer: Answer) -> bool:
        try:
            report = answer.result()
        except self._engine.lost as error:
            return self._lost(team, post, error)
        except Exception as error:  # whatever is wrong with one share, the others are to be heard
            log.exception("share %s", post.share.name)
            return team.hear(post, Report("nobody", failure=f"{type(error).__name__}: {error}"))
        if post.report and report.worker != post.report.worker:
            team.began_anew += 1
            log.warning("%s is done anew by %s", post.share.name, report.worker)
            post.begin_anew()
            self._engine.replace(post.number)
        return team.hear(post, report)

    def _lost(self, team: Team, post: Post, error: BaseException) -> bool:
        post.lost += 1
        if post.lost > _MOST_LOST:
            failure = f"{post.lost} workers died of {post.share.name}: {error}"
            return team.hear(post, Report("nobody", failure=failure))
        log.warning("the worker of %s is gone (%s); another one begins it anew", post.share.name, error)
        team.began_anew += 1
        post.begin_anew()
        self._engine.replace(post.number)
        return True
