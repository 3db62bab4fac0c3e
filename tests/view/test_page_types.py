"""The types that the page's modules tell of in their comments are right."""

import subprocess
from pathlib import Path


def test_the_modules_of_the_page_are_typed(npm_packages: Path) -> None:
    """TypeScript finds nothing wrong: each name exists, each call has the arguments that are described."""
    command = ["node", str(npm_packages / "typescript" / "bin" / "tsc"), "--project", "."]
    done = subprocess.run(
        command, cwd=npm_packages.parent, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
