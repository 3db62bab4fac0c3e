"""``tomolive reconstruct``."""

import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tomolive import service
from tomolive.cli.catalog import parse_mounts
from tomolive.cli.options import config_option, with_scheme
from tomolive.config import CorrectionSettings, Settings
from tomolive.errors import SettingsError


@click.command()
@click.argument("run", default="")
@click.option("--catalog", "catalog", metavar="URI", help="Find the run in this Tiled catalog.")
@click.option("--hub", "hub", metavar="ADDRESS", help="Find the run at this hub, and send the result there.")
@click.option("--documents", type=click.Path(path_type=Path),
              help="Find the run in this file of JSON lines, or in this folder that `tomolive export` has "
              "made, with its files.")  # fmt: skip
@click.option("--mount", "mounts", multiple=True, metavar="/there=/here",
              help="Files under /there in documents are under /here on this machine (repeat).")  # fmt: skip
@click.option("--root", "roots", multiple=True, type=click.Path(path_type=Path),
              help="Folder that may be read (repeat); default: the local sides of --mount.")  # fmt: skip
@click.option("--rules", "rule_files", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
              help="Rules of your own (repeat); they come before the shipped ones.")  # fmt: skip
@click.option("--center", type=float,
              help="Rotation centre, detector column.  [default: that of the live reconstruction if its "
              "results are at hand, else estimated]")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path),
              help="Folder of the live reconstruction's results.")  # fmt: skip
@click.option("--filter", "filter_name", metavar="NAME", help="Reconstruction filter.  [default: ramp]")
@click.option("--rings", type=click.Choice(["none", "sorting", "combined", "fourier-wavelet"]),
              help="Method of stripe removal.")  # fmt: skip
@click.option("--zingers/--no-zingers", default=None, help="Replace single pixels that stray photons hit.")
@click.option("--binning", type=click.Choice(["1", "2", "4", "8"]), help="Pixels a side that are averaged.")
@click.option("--half-acquisition/--no-half-acquisition", default=None,
              help="Widen slices about an axis near the edge.  [default: found]")  # fmt: skip
@click.option("--least-beam", type=click.FloatRange(0, 1, max_open=True), metavar="PART",
              help="Leave out projections darker than this part of the usual one; 0: none.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder for volumes.")
@click.option("--format", "format_", type=click.Choice(["ome-zarr", "nxtomoproc"]), help="Of the volume.")
@click.option("--dtype", type=click.Choice(["float32", "uint16"]), help="Of the volume.")
@click.option("--range", "value_range", type=(float, float), metavar="LOW HIGH",
              help="For uint16: what 0 and 65535 stand for.  [default: found]")  # fmt: skip
@click.option("--memory", type=click.IntRange(1), metavar="MB", help="Peak memory of all processes.")
@click.option("--processes", type=click.IntRange(1), help="Cores that work on it.")
@click.option("--dask", metavar="ADDRESS", help="Have the workers of this Dask scheduler make the slices.")
@click.option("--like", metavar="RESULT_UID", help="Repeat an earlier result with its parameters.")
@click.option("--publish", metavar="ADDRESS", help="Send the result's documents to this hub.")
@click.option("--no-publish", is_flag=True, help="Send them nowhere.")
@config_option
def reconstruct(run: str, **options: Any) -> None:
    """Make the full volume of a finished RUN (its uid; default: the newest of --catalog or --documents).

    One that was interrupted is taken up where it stopped. Ctrl-C stops; the same command goes on.
    """
    from tomolive.live.volume.results import documents_of, make_result
    from tomolive.live.volume.volume import CancelledError

    request = _request(run, options)
    stopped = threading.Event()
    service.stop_on_signals(stopped.set)
    try:
        with _Bar() as bar:
            result = make_result(request, bar.show, stopped.is_set)
    except CancelledError:
        click.echo("stopped; the same command goes on from here", err=True)
        sys.exit(128 + signal.SIGINT)
    told = result.about["parameters"]
    shape = " x ".join(map(str, told["shape"]))
    click.echo(f"{result.path}")
    click.echo(f"  {shape} {told['dtype']}, {told['units']}, {told['filter']} filter")
    click.echo(f"  centre {told['center']:.2f} ({told['center_source']})")
    for note in result.about["notes"]:
        click.echo(f"  {note}")
    if result.seconds:
        click.echo(f"  made in {result.seconds['wall']:.1f} s")
    click.echo(f"  result {result.uid}, documents in {documents_of(result.path).name}")


def _request(run: str, options: dict[str, Any]) -> Any:
    from tomolive.live.volume.documents import DocumentSource
    from tomolive.live.volume.request import VolumeRequest

    settings = Settings.load(options["config"])
    hub = with_scheme(options["hub"]) if options["hub"] else None
    documents = options["documents"]
    source = DocumentSource(hub, options["catalog"], str(documents) if documents else None)
    if not (hub or options["catalog"] or documents):
        source = DocumentSource(with_scheme(settings.hub.native))
    files, volume = _files(settings, options), _volume(settings, options)
    publish = with_scheme(options["publish"]) if options["publish"] else hub
    request = VolumeRequest(
        run,
        source,
        center=options["center"],
        filter=options["filter_name"] or settings.live.filter,
        corrections=_corrections(settings.live.corrections, options),
        volume=volume,
        files=files,
        value_range=options["value_range"],
        rule_files=tuple(str(path) for path in options["rule_files"]),
        publish=None if options["no_publish"] else publish,
    )
    if options["like"]:
        return _like(request, options["like"])
    found = source.find(run)
    if not found:
        raise SettingsError("say which run: its uid")
    request = replace(request, run_uid=found)
    return request if request.center is not None else _centred(request, options["results"], settings)


def _like(request: Any, uid: str) -> Any:
    """Return a request with the parameters of an earlier result, found where runs are, or beside volumes."""
    import json

    from tomolive.errors import ScanError

    for path in Path(request.volume.folder).glob("*/volume-*.jsonl"):
        _, start = json.loads(path.read_text().partition("\n")[0])
        if start["uid"].startswith(uid):
            return request.repeated(start["uid"], start)
    documents = request.source.fetch(request.source.find(uid))
    start = next((doc for name, doc in documents if name == "start"), None)
    if start is None:
        raise ScanError(f"result {uid} has no start document")
    return request.repeated(start["uid"], start)


def _centred(request: Any, results: Path | None, settings: Settings) -> Any:
    """Return the request with the centre that the live reconstruction ended with, if that is at hand."""
    import json

    from tomolive.live.results.files import folder_of

    summary = folder_of(results or Path(settings.live.results), request.run_uid) / "summary.json"
    if not summary.exists():
        return request
    told = json.loads(summary.read_text())
    if told.get("center") is None:
        return request
    return replace(request, center=told["center"], center_source=f"live: {told['center_source']}")


def _files(settings: Settings, options: dict[str, Any]) -> Any:
    given: dict[str, Any] = {}
    if options["mounts"]:
        given["mounts"] = parse_mounts(options["mounts"])
    if options["roots"]:
        given["roots"] = tuple(str(root.expanduser().absolute()) for root in options["roots"])
    home = options["documents"]
    if home and home.is_dir() and not given:
        from tomolive.catalog.export import linked_folders, mounts_of

        mounts = mounts_of(home)
        given = {"mounts": mounts, "roots": (*mounts.values(), *map(str, linked_folders(home)))}
    files = settings.files.model_copy(update=given)
    if not files.mounts and not files.roots:
        raise SettingsError(
            "no image can be read: name the folder that detectors write to with --root or --mount"
        )
    return files


def _volume(settings: Settings, options: dict[str, Any]) -> Any:
    from tomolive.recon.parallel import allowed_cores

    named = {"folder": "out", "format": "format_", "dtype": "dtype", "memory_mb": "memory", "dask": "dask"}
    given = {key: options[name] for key, name in named.items() if options[name] is not None}
    if "folder" in given:
        given["folder"] = str(given["folder"])
    if options["processes"]:
        given["processes"] = options["processes"]
    elif "processes" not in settings.volume.model_fields_set:
        given["processes"] = allowed_cores()
    return settings.volume.model_copy(update=given)


def _corrections(settings: CorrectionSettings, options: dict[str, Any]) -> CorrectionSettings:
    names = ("rings", "zingers", "half_acquisition", "least_beam")
    given = {key: options[key] for key in names if options[key] is not None}
    if options["binning"]:
        given["binning"] = int(options["binning"])
    return settings.model_copy(update=given)


class _Bar:
    """The progress on the terminal: slices done, rate, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"), TimeElapsedColumn(),
            console=Console(stderr=True),
        )  # fmt: skip
        self._task = self._progress.add_task("volume", total=None, pace="")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: Any) -> None:
        """Show how far it is."""
        pace = ""
        if progress.rate:
            pace = f"{progress.rate:.1f} slices/s, {progress.seconds_left:.0f} s left"
        self._progress.update(
            self._task,
            description=progress.message or "slices",
            completed=progress.done,
            total=progress.total or None,
            pace=pace,
        )
