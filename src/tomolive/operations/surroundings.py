"""A live look at what the settings name: addresses, mounts, rights, room, and clocks."""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tomolive.config import Settings, parse_size
from tomolive.errors import AddressError, TomoliveError
from tomolive.operations.consistency import listeners
from tomolive.operations.finding import Check, Finding, fine, mistake, warning
from tomolive.operations.services import TIMEOUT_S, fetch, service_urls
from tomolive.stream.engines.address import EngineAddress

_CLOCK_S = 2.0
"""Clocks that differ by more make lags and ages lie."""
_ROOM = 2**30
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"}


def _folders(settings: Settings) -> Iterator[Finding]:
    """Try to write where something is written to."""
    named = {
        "hub.journal": settings.hub.journal,
        "live.results": settings.live.results,
        "live.spill": settings.live.spill,
        "volume.folder": settings.volume.folder,
        "catalog.directory": settings.catalog.directory,
    }
    for key, folder in named.items():
        if folder is not None:
            yield _writable(key, Path(folder).expanduser())


def _writable(key: str, folder: Path) -> Finding:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return mistake(key, f"cannot write to {there}: {error.strerror}")
    free = shutil.disk_usage(there).free
    if free < _ROOM:
        return warning(key, f"only {free / 2**20:.0f} MB are free at {there}")
    kind = _file_system(there)
    if key in ("hub.journal", "live.spill") and kind in _NETWORK:
        return warning(key, f"{there} is a network file system ({kind}); a local disk is faster and safer")
    return fine(key, f"{folder} can be written to, {free / 2**30:.0f} GB free")


def _file_system(path: Path) -> str:
    """Return the type of the file system that holds ``path``; empty where the system does not tell."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = [line.split()[1:3] for line in lines]
    under = [(len(point), kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(under)[1] if under else ""


def _journal_size(settings: Settings) -> Iterator[Finding]:
    hub = settings.hub
    if hub.journal is None or hub.keep_size is None:
        return
    try:
        size = parse_size(hub.keep_size)
    except TomoliveError:
        return  # told as a mistake of the settings
    there = next(
        p for p in (Path(hub.journal).absolute(), *Path(hub.journal).absolute().parents) if p.exists()
    )
    total = shutil.disk_usage(there).total
    if size > total:
        yield mistake(
            "hub.keep_size", f"{hub.keep_size} is more than the whole disk ({total / 2**30:.0f} GB)"
        )


def _readable(settings: Settings) -> Iterator[Finding]:
    """Try to read where detectors, and we ourselves, write to."""
    made = {settings.live.results, settings.volume.folder}
    named = [("files.mounts", here) for here in settings.files.mounts.values()]
    named += [("files.roots", root) for root in settings.files.roots]
    named += [("catalog.readable", folder) for folder in settings.catalog.readable]
    for key, folder in named:
        path = Path(folder)
        if key == "catalog.readable" and folder in made and not path.exists():
            yield fine(key, f"{folder} is made when the first result is written")
            continue
        try:
            empty = next(path.iterdir(), None) is None
        except OSError as error:
            yield mistake(key, f"cannot read {folder}: {error.strerror}; is the file system mounted?")
            continue
        if empty:
            yield warning(key, f"{folder} is empty: is the detector's file system mounted there?")
        else:
            yield fine(key, f"{folder} can be read")


def _keys(settings: Settings) -> Iterator[Finding]:
    from tomolive.stream.keys import ENVIRONMENT, ClientKeys, Keyring, clients

    folder = settings.hub.keys
    if folder is not None:
        try:
            Keyring.load(folder)
            count = len(clients(Path(folder)))
        except TomoliveError as error:
            yield mistake("hub.keys", str(error))
        else:
            known = fine("hub.keys", f"{count} clients may connect")
            yield known if count else warning("hub.keys", "nobody may connect: see `tomolive keys allow`")
    try:
        ClientKeys.from_environment()
    except TomoliveError as error:
        yield mistake(ENVIRONMENT, str(error))


def _token(settings: Settings) -> Iterator[Finding]:
    file = settings.page.token_file
    if file is None:
        return
    try:
        text, mode = Path(file).read_text().strip(), stat.S_IMODE(Path(file).stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        yield mistake("page.token_file", f"cannot read {file}: {error}")
        return
    if len(text) < 16:
        yield mistake(
            "page.token_file", f"the token in {file} has {len(text)} characters; make it 16 or more"
        )
    elif mode & 0o077:
        yield mistake("page.token_file", f"others can read {file}: chmod 600 {file}")
    else:
        yield fine("page.token_file", "holds a token that others cannot read")


def _machine(settings: Settings) -> Iterator[Finding]:
    """Compare cores and memory with what the settings count on."""
    cores = len(os.sched_getaffinity(0))
    for key, wanted in (
        ("live.threads", settings.live.threads),
        ("files.threads", settings.files.threads),
        ("volume.processes", settings.volume.processes),
    ):
        if wanted > cores:
            yield warning(key, f"{wanted} on a machine with {cores} cores: they will wait for each other")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    asked = settings.live.memory_mb + settings.files.memory_mb + settings.volume.memory_mb
    if asked > memory:
        yield mistake(
            "live.memory_mb",
            f"live, files and volume together may take {asked} MB, and this machine has {memory:.0f} MB",
        )


def _services(settings: Settings) -> Iterator[Finding]:
    """Ask everything how it is; what does not run is no mistake of the settings."""
    for key, url in service_urls(settings).items():
        name = key.partition(".")[0]
        answer = fetch(url)
        if isinstance(answer, str):
            yield warning(key, f"{name} does not answer at {url}: {answer}")
            continue
        code, ahead, _ = answer
        if code >= 500:
            yield warning(key, f"{name} at {url} says that it is not well ({code}); see `tomolive status`")
        elif ahead is not None and abs(ahead) > _CLOCK_S:
            yield mistake(
                key,
                f"the clock there is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this one; "
                "let both follow the same NTP server",
            )
        else:
            yield fine(key, f"{name} answers at {url}, and its clock agrees")


def _reachable(settings: Settings) -> Iterator[Finding]:
    """Connect to what speaks no HTTP; of a broker that has several servers, to each."""
    targets = {"hub.address": settings.hub.address, "volume.dask": settings.volume.dask}
    targets |= {"catalog.database": settings.catalog.database, "catalog.storage": settings.catalog.storage}
    for key, uri in targets.items():
        if uri is None or (uri.startswith("postgresql:") and not urlsplit(uri).hostname):
            continue  # a database behind a socket of this machine has no host
        try:
            endpoints = EngineAddress.parse(uri if "://" in uri else f"tcp://{uri}").endpoints
        except AddressError as error:
            yield mistake(key, str(error))
            continue
        silent = {place: reason for place in endpoints if (reason := _silence(place))}
        for host, port in endpoints:
            if (host, port) not in silent:
                yield fine(key, f"{host}:{port} answers")
        tell = mistake if len(silent) == len(endpoints) else warning
        for (host, port), reason in silent.items():
            yield tell(key, f"nothing answers at {host}:{port}: {reason}")


def _silence(place: tuple[str, int]) -> str:
    """Return why there is no connection to a host and port; empty: there is one."""
    try:
        socket.create_connection(place, TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _names(settings: Settings) -> Iterator[Finding]:
    """Look hosts up that are listened on."""
    for key, text in listeners(settings).items():
        host, _, port = text.rpartition(":")
        try:
            socket.getaddrinfo(host.strip("[]"), int(port))
        except OSError as error:
            yield mistake(key, f"{host} is no address of a machine: {error.strerror or error}")
        except ValueError:
            pass  # told as a mistake of the settings


SURROUNDINGS: tuple[Check, ...] = (
    _folders, _journal_size, _readable, _keys, _token, _machine, _names, _reachable, _services,
)  # fmt: skip
