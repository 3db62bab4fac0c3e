"""``tomolive bench``: figures beside what they are compared with."""

import click

from tomolive.cli.lazy import LazyGroup

BENCHMARKS = {
    "catalog": "tomolive.bench.catalog:catalog",
    "engines": "tomolive.bench.engines:engines",
    "faults": "tomolive.bench.faults:faults",
    "files": "tomolive.bench.files:files",
    "fuzz": "tomolive.bench.fuzz:fuzz",
    "page": "tomolive.bench.page:page",
    "recon": "tomolive.bench.recon:recon",
    "transport": "tomolive.bench.transport:transport",
    "volume": "tomolive.bench.volume:volume",
}


@click.group(cls=LazyGroup, lazy=BENCHMARKS)
def bench() -> None:
    """Measure, and print each figure beside what it is compared with in the same run."""
