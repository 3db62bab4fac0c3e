"""``python -m tomolive`` is the ``tomolive`` command."""

from tomolive.cli import main

main()
