"""One share of a field: who does it, and the last that was heard of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tomolive.live.crew.engines import Answer
from tomolive.live.crew.messages import Orders, Report, Share


@dataclass(eq=False)
class Post:
    """A share in the hands of a worker."""

    share: Share
    number: int
    """Of the worker that is asked."""
    answer: Answer | None = None
    orders: Orders = field(default_factory=Orders)
    """What was asked for last."""
    report: Report | None = None
    pictures: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    projection: tuple[int, str] | None = None
    """Number and units of the projection among them."""
    asked: float = 0.0
    lost: int = 0
    """How many workers died of it, or with it."""
    followed: Orders = field(default_factory=Orders)
    """What the last report follows."""

    def hear(self, report: Report) -> bool:
        """Take a report; return whether it has news."""
        before, self.report, self.followed = self.report, report, self.orders
        if report.pictures is not None:
            self.pictures, self.projection = report.pictures, report.projection
        if before is None or report.pictures is not None:
            return True
        return (before.ended, before.failure, before.unreadable) != (
            report.ended, report.failure, report.unreadable,
        )  # fmt: skip

    def begin_anew(self) -> None:
        """Forget what was reported: somebody begins the share from the start of its run."""
        self.report, self.pictures, self.asked = None, {}, 0.0

    @property
    def have(self) -> str:
        """Version of the pictures that are here."""
        return self.report.version if self.report else ""

    @property
    def state(self) -> str:
        """In a word, for the page."""
        if self.report is None:
            return "starting"
        if self.report.failure:
            return "failed"
        return "finished" if self.report.ended else "working"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return self.report is not None and bool(self.report.ended or self.report.failure)
