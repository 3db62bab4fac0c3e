"""The Python of the documentation runs, and prints what the page says.

A page joins with the comment ``<!-- run -->`` under its title. Its ``python`` blocks then run from top to
bottom as one session, in an empty folder; a ``text`` block that follows one is what it prints, to the letter.
Before a block, ``<!-- needs NAME -->`` has the file of that name put into the folder, or the block left out
where it is not at hand, and ``<!-- not run -->`` leaves it out everywhere.
"""

import contextlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RUN = "<!-- run -->"
PAGES = [
    path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts and RUN in path.read_text()
]
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>needs \S+|not run) -->\n)?"
    r"^```(?P<language>python|text)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A piece of code, and what it prints if the page says so."""

    line: int
    code: str
    printed: str | None
    note: str


def blocks_of(text: str) -> list[Block]:
    """Return the python blocks of a page."""
    found = list(_BLOCK.finditer(text))
    blocks = []
    for this, following in zip(found, [*found[1:], None], strict=True):
        if this["language"] != "python":
            continue
        printed = None
        if following and following["language"] == "text" and not text[this.end() : following.start()].strip():
            printed = following["body"]
        line = text.count("\n", 0, this.start("body")) + 1
        blocks.append(Block(line, this["body"], printed, this["note"] or ""))
    return blocks


def run_page(path: Path, files: dict[str, Path]) -> tuple[int, list[str]]:
    """Run a page in the current folder; return how many blocks ran, and which files were not at hand."""
    session: dict[str, object] = {"__name__": "__page__"}
    ran, left_out = 0, []
    for block in blocks_of(path.read_text()):
        kind, _, name = block.note.partition(" ")
        if block.note == "not run":
            continue
        if kind == "needs":
            if name not in files:
                left_out.append(name)
                continue
            Path(name).symlink_to(files[name])
        # so many empty lines before it that a traceback names the line of the page
        code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, session)  # noqa: S102  the page's own code, from this repository
        ran += 1
        if block.printed is not None:
            assert out.getvalue() == block.printed, f"{path.name}, line {block.line}"
    return ran, left_out


@pytest.fixture
def files() -> dict[str, Path]:
    """Files that pages may need, where they are at hand; as the fixture ``tooth`` looks for them."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "tooth.h5"
    tooth = Path(os.environ.get("TOMOLIVE_TEST_TOOTH", beside))
    return {"tooth.h5": tooth} if tooth.exists() else {}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_code_of_a_page_runs(page, files, tmp_path, monkeypatch):
    """From top to bottom, in an empty folder, printing what the page says."""
    monkeypatch.chdir(tmp_path)
    ran, left_out = run_page(page, files)
    assert ran, "the page is marked for running, but has no python blocks"
    if left_out:
        pytest.skip(f"the rest ran; blocks that need {', '.join(left_out)} were left out")


def test_there_are_pages_to_run():
    """The mark is found."""
    assert "reconstruct-in-a-notebook" in [path.stem for path in PAGES]


def test_a_page_that_is_wrong_fails(tmp_path, monkeypatch):
    """What it prints, what it raises, what it needs, and what it does not want run."""
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 2\n```\n\n```python\nprint(x)\n```\n\n```text\n2\n```\n")
    assert run_page(page, {}) == (2, [])
    page.write_text("```python\nprint(3)\n```\n\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match=r"page.md, line 2"):
        run_page(page, {})
    page.write_text("```python\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError):
        run_page(page, {})
    page.write_text(
        "<!-- needs moon.h5 -->\n```python\n1 / 0\n```\n\n<!-- not run -->\n```python\n1 / 0\n```\n"
    )
    assert run_page(page, {}) == (0, ["moon.h5"])
