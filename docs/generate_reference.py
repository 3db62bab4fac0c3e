"""Write the pages of the reference that are made from the code: commands, settings, metrics.

``make reference`` runs it; a test says when a page is behind the code.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo

from tomolive import metrics
from tomolive.cli import group
from tomolive.config import Section, Settings

REFERENCE = Path(__file__).parent / "reference"
_ABOUT_SETTINGS = """One YAML file for a beamline, given with `--config FILE` or as `TOMOLIVE_CONFIG`;
every key has a default. A variable such as `TOMOLIVE_LIVE__FILTER=hann` overrides `live.filter`.
`tomolive check FILE` looks for mistakes. Unknown keys are mistakes, never ignored."""
_METRICS_HEAD = "| metric | type | labels | |\n|---|---|---|---|"


def commands() -> str:
    """Return a page with the help of every command."""
    parts = ["# Commands", "What `tomolive COMMAND --help` says."]
    for path, command in _walk(group, ("tomolive",)):
        # A terminal of a fixed width: the page must not depend on whose terminal made it.
        context = click.Context(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        parts += [f"## {' '.join(path)}", f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        if below is not None:
            yield from _walk(below, (*path, name))


def settings() -> str:
    """Return a page with every setting, its type and its default."""
    parts = ["# Settings", _ABOUT_SETTINGS]
    for name, field in Settings.model_fields.items():
        section: Any = field.annotation
        parts += [f"## {name}", section.__doc__.strip().splitlines()[0], _table(section, f"{name}.")]
    return "\n\n".join(parts) + "\n"


def _table(section: type[Section], prefix: str) -> str:
    lines = ["| setting | | default |", "|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in _rows(section, prefix)])


def _rows(section: type[Section], prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, field in section.model_fields.items():
        below = _section_in(field)
        if field.description:
            told = field.is_required() or field.default_factory or below
            default = "" if told else f"`{field.default!r}`"
            yield f"`{prefix}{key}`", field.description.replace("|", "\\|"), default
        if below:
            yield from _rows(below, f"{prefix}{key}.")


def _section_in(field: FieldInfo) -> type[Section] | None:
    kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def metric_names() -> str:
    """Return a page with every metric."""
    parts = ["# Metrics", "What `/metrics` of a process shows to Prometheus.", _METRICS_HEAD]
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = ", ".join(f"`{label}`" for label in metric._labelnames)
                parts[-1] += f"\n| `{name}` | {family.type} | {labels} | {family.documentation} |"
    return "\n\n".join(parts) + "\n"


PAGES = {"commands.md": commands, "settings.md": settings, "metrics.md": metric_names}

if __name__ == "__main__":
    for page, made in PAGES.items():
        (REFERENCE / page).write_text(made())
        sys.stdout.write(f"docs/reference/{page}\n")
