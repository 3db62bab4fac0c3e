"""The documentation builds without a warning, its links lead somewhere, and generated pages are of today."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """Return docs/generate_reference.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["commands.md", "settings.md", "metrics.md"])
def test_the_reference_is_of_today(generator: ModuleType, page: str) -> None:
    """What `make reference` would write is what is there."""
    assert (DOCS / "reference" / page).read_text() == generator.PAGES[page](), "run `make reference`"


@pytest.mark.timeout(300)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """`make docs` treats warnings as errors."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_links_to_a_heading_find_it(page: Path) -> None:
    """A link with an anchor leads to a heading that exists; that files exist is looked at elsewhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        if anchor and "://" not in target:
            other = (page.parent / file).resolve() if file else page
            assert anchor in _anchors(other.read_text()), f"{page.name}: {target}"


def test_links_to_elsewhere_are_well_formed() -> None:
    """Each is https with a host and has no blank; whether it answers is not looked at."""
    wrong = [
        f"{page.name}: {target}"
        for page in [*PAGES, ROOT / "README.md"]
        for target in re.findall(r"(?:\]\(|<)(\w+://[^)>]*)[)>]", page.read_text())
        if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/\S*)?", target)
        and urlsplit(target).hostname not in ("127.0.0.1", "HOST")
    ]
    assert wrong == []


def test_every_page_can_be_found_from_the_first() -> None:
    """docs/README.md links to each page, so that a reader on the web finds it without the site's menu."""
    first = (DOCS / "README.md").read_text()
    linked = {
        (DOCS / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", first) if "://" not in target
    }
    wanted = {page for page in PAGES if page.parent.name not in ("docs", "decisions")}
    assert sorted(str(page.relative_to(DOCS)) for page in wanted - linked) == []
