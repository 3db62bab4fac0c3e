"""``tomolive live``."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tomolive import service
from tomolive.cli.catalog import parse_mounts
from tomolive.cli.options import config_option, parse_listen, with_scheme
from tomolive.config import FilesSettings, Settings
from tomolive.errors import AddressError, SettingsError

if TYPE_CHECKING:
    from tomolive.live.volume_orders import VolumeOrders
    from tomolive.stream.publisher import Publisher

log = logging.getLogger(__name__)

_HUB_TIMEOUT_S = 10.0


@click.command()
@click.option("--hub", "address", help="Where documents come from.  [default: hub.address of the settings]")
@click.option("--mount", "mounts", multiple=True, metavar="/there=/here",
              help="Files under /there in documents are under /here on this machine (repeat).")  # fmt: skip
@click.option("--root", "roots", multiple=True, type=click.Path(path_type=Path),
              help="Folder that may be read (repeat); default: the local sides of --mount.")  # fmt: skip
@click.option("--page", metavar="HOST:PORT", help="Serve the page here; without it there is none.")
@click.option("--token", envvar="TOMOLIVE_TOKEN", help="Lets a browser elsewhere control; see --page.")
@click.option("--read-only", is_flag=True, help="Nobody may control from the page.")
@click.option("--catalog", metavar="URI",
              help="Tiled catalog whose scans the page lists.  [default: of the settings]")  # fmt: skip
@click.option("--results", type=click.Path(path_type=Path), help="Folder for slices.")
@click.option("--center", type=float, help="Rotation centre, detector column.  [default: estimated]")
@click.option("--filter", "filter_name", metavar="NAME", help="Reconstruction filter.  [default: ramp]")
@click.option("--analysis", "analyses", multiple=True, metavar="MODULE:FUNCTION",
              help="Analyse what is reconstructed with a function of your own (repeat).")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), metavar="N",
              help="Have N processes reconstruct, each a band of rows of each camera.")  # fmt: skip
@click.option("--dask", metavar="tcp://HOST:8786", help="Have the workers of a Dask cluster do it.")
@click.option("--publish-results/--no-publish-results", default=True, show_default=True,
              help="Announce results at the hub, as runs of their own.")  # fmt: skip
@click.option("--start", default="new", show_default=True, metavar="newest|new|all|UID",
              help="Which run to begin with.")  # fmt: skip
@click.option("--rules", "rule_files", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
              help="Rules of your own (repeat); they come before the shipped ones.")  # fmt: skip
@config_option
@click.option("--verbose", is_flag=True)
def live(
    address: str | None,
    mounts: tuple[str, ...],
    roots: tuple[Path, ...],
    page: str | None,
    token: str | None,
    read_only: bool,
    catalog: str | None,
    results: Path | None,
    center: float | None,
    filter_name: str | None,
    analyses: tuple[str, ...],
    workers: int | None,
    dask: str | None,
    publish_results: bool,
    start: str,
    rule_files: tuple[Path, ...],
    config: Path | None,
    verbose: bool,
) -> None:
    """Reconstruct every tomography scan while it runs, and show it on a page.

    When a scan ends its three slices are in a folder named by its uid.
    """
    settings = _settings(config, address, mounts, roots, results, center, filter_name, analyses)
    service.setup_logging(verbose or settings.log.verbose, settings.log.format)
    page = page or settings.page.listen
    token = token or _token_in(settings.page.token_file)
    read_only = read_only or settings.page.read_only

    from tomolive.live.controls import Controls
    from tomolive.live.documents.rules import load_rules, shipped_rules
    from tomolive.live.results.files import prepare_results
    from tomolive.live.snapshot import SnapshotStore
    from tomolive.live.warming import warm_up
    from tomolive.live.worker import LiveReconstruction
    from tomolive.recon.filters import check_filter
    from tomolive.stream.dispatcher import RemoteDispatcher

    check_filter(settings.live.filter)
    if settings.live.tiles and not (workers or dask):
        raise SettingsError("live.tiles: several cameras are stitched by workers: add --workers N or --dask")
    _check_folders(settings.files)
    rules = [*map(load_rules, rule_files), *shipped_rules()]
    folder = prepare_results(Path(settings.live.results))
    # Without --mount the documents' paths are true here, but only folders that were named are read.
    dispatcher = partial(
        RemoteDispatcher,
        settings.hub.native,
        mounts=settings.files.mounts,
        roots=settings.files.roots or None,
        patience=settings.files.patience_s,
        memory=settings.files.memory_mb * 1_000_000,
        threads=settings.files.threads,
    )
    store, controls = SnapshotStore(), Controls()
    source = dispatcher(start=start)
    publisher = _publisher(settings, folder) if publish_results else None
    about_scans: dict[str, Any] = {"results": folder, "settings": settings.live, "rules": rules}
    about_scans |= {"publish": publisher, "orders": _orders(settings, rule_files)}
    if workers or dask:
        from tomolive.live.crew.engines import DaskEngine, LocalEngine
        from tomolive.live.crew.follow import CrewReconstruction
        from tomolive.live.crew.messages import Source

        engine = DaskEngine(dask) if dask else LocalEngine(workers or 1)
        files = settings.files
        where = Source(
            settings.hub.native,
            files.mounts,
            files.roots or None,
            files.patience_s,
            files.memory_mb,
            files.threads,
        )
        worker = CrewReconstruction(source, where, engine, store, controls, **about_scans)
    else:
        worker = LiveReconstruction(
            source, store, controls, earlier=lambda uid: dispatcher(start=uid), **about_scans
        )
    process = _Process(worker.run, worker.stop)
    service.stop_on_signals(process.stopped.set)
    warm_up(settings.live.threads)
    with ExitStack() as ends:
        if publisher is not None:
            ends.callback(publisher.close)
        ends.enter_context(process)
        process.wait_until(source.wait_ready, settings.hub.native)
        if process.stopped.is_set():
            return

        def ready(url: str = "") -> None:
            where = f", page at {url}" if url else ""
            click.echo(f"live reconstruction of {settings.hub.native}, results in {folder}{where}")
            service.notify_ready(**({"page": url} if url else {}))

        if page:
            from tomolive.recon.filters import FILTERS
            from tomolive.view.server import create_app, serve

            host, port = parse_listen(page, "--page")
            about: dict[str, Any] = {"source": settings.hub.native, "filters": FILTERS, "results": folder}
            about["catalog"] = catalog or settings.catalog.uri
            app = create_app(store, controls, token=token, read_only=read_only, **about)
            serve(app, host, port, process.stopped, ready=ready)
        else:
            ready()
            process.stopped.wait()


class _Process:
    """The thread that reconstructs, and the end of the process when it ends."""

    def __init__(self, run: Callable[[], None], stop: Callable[[], None]) -> None:
        self._run, self._stop = run, stop
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name="reconstruction", daemon=True)
        self.stopped = threading.Event()

    def _follow(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  raised again by the main thread
            self._error = error
        finally:
            self.stopped.set()

    def wait_until(self, ready: Callable[[float], bool], address: str) -> None:
        """Wait for the hub, or for the end."""
        for _ in range(int(_HUB_TIMEOUT_S / 0.1)):
            if ready(0.1) or self.stopped.is_set():
                return
        raise AddressError(
            f"no hub answers at {address}; is it running? `tomolive hub --journal DIR` starts one"
        )

    def __enter__(self) -> "_Process":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._stop()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error


def _settings(
    config: Path | None,
    address: str | None,
    mounts: tuple[str, ...],
    roots: tuple[Path, ...],
    results: Path | None,
    center: float | None,
    filter_name: str | None,
    analyses: tuple[str, ...] = (),
) -> Settings:
    """Return the settings with what the command line says on top."""
    settings = Settings.load(config)
    files: dict[str, Any] = {}
    if mounts:
        files["mounts"] = parse_mounts(mounts)
    if roots:
        files["roots"] = tuple(str(root.expanduser().absolute()) for root in roots)
    given = {"center": center, "filter": filter_name, "results": str(results) if results else None}
    given["analysis"] = analyses or None
    return settings.model_copy(
        update={
            "hub": settings.hub.model_copy(
                update={"native": with_scheme(address or settings.hub.address or settings.hub.native)}
            ),
            "files": settings.files.model_copy(update=files),
            "live": settings.live.model_copy(update={k: v for k, v in given.items() if v is not None}),
        }
    )


def _orders(settings: Settings, rule_files: tuple[Path, ...]) -> "VolumeOrders | None":
    """Return what makes full volumes; None for documents that cannot be fetched a second time."""
    from tomolive.live.volume.documents import DocumentSource
    from tomolive.live.volume.request import VolumeRequest
    from tomolive.live.volume.runner import VolumeRunner
    from tomolive.live.volume_orders import VolumeOrders

    hub = settings.hub.native
    if hub.startswith("stock:"):
        return None

    def request(run_uid: str) -> VolumeRequest:
        return VolumeRequest(
            run_uid,
            DocumentSource(hub=hub),
            volume=settings.volume,
            files=settings.files,
            rule_files=tuple(str(path.absolute()) for path in rule_files),
            publish=hub,
        )

    return VolumeOrders(VolumeRunner(), request, settings.volume)


def _publisher(settings: Settings, results: Path) -> "Publisher | None":
    """Return what sends results to the hub; None if documents do not come from one."""
    from tomolive.stream.publisher import Publisher

    if settings.hub.native.startswith("stock:"):
        return None
    return Publisher(settings.hub.native, spool=results / ".spool", name="live results")


def _check_folders(files: FilesSettings) -> None:
    """Say now that no image can be read, instead of when the first one is announced."""
    here = [*files.mounts.values(), *files.roots]
    if not here:
        log.warning("no image can be read: name the folder that detectors write to with --root or --mount")
    for folder in here:
        if not Path(folder).is_dir():
            raise SettingsError(f"there is no folder {folder}: correct --root or --mount")


def _token_in(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        token = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"page.token_file: cannot read {file}: {error}") from None
    if not token:
        raise SettingsError(f"page.token_file: {file} is empty")
    return token
