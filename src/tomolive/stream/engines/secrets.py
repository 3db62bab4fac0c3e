"""Credentials of brokers: from the address, the environment, or a file; never shown."""

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from tomolive.errors import SettingsError
from tomolive.stream.engines.address import EngineAddress

OPTIONS = frozenset({"tls", "ca", "cert", "key", "password_file"})
"""That every engine's address may have."""


@dataclass(frozen=True)
class Credentials:
    """Who we are to a broker, and how we know that it is the right one."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    """File of the authorities that are trusted; default: the system's."""
    cert: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, address: EngineAddress) -> "Credentials":
        """Gather what the address says; the environment (``TOMOLIVE_NATS_PASSWORD``) has what it leaves out.

        Raises
        ------
        SettingsError
            if a file cannot be read.
        """
        prefix = f"TOMOLIVE_{address.scheme.upper()}_"

        def setting(name: str) -> str | None:
            return address.options.get(name) or os.environ.get(prefix + name.upper()) or None

        ca, cert, key = setting("ca"), setting("cert"), setting("key")
        file = setting("password_file")
        password = content(file, "password file") if file else os.environ.get(prefix + "PASSWORD")
        return cls(
            address.user or os.environ.get(prefix + "USER"),
            address.password or password,
            setting("tls") in {"yes", "1", "true"} or bool(ca or cert),
            ca, cert, key,
        )  # fmt: skip

    def context(self) -> ssl.SSLContext | None:
        """Return what TLS needs; None: none is wanted.

        Raises
        ------
        SettingsError
            if a certificate or key cannot be read.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"TLS with ca={self.ca}, cert={self.cert}, key={self.key}: {error}") from None
        return context


def content(file: str, what: str) -> str:
    """Return what is in a file of secrets.

    Raises
    ------
    SettingsError
        if it cannot be read.
    """
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise SettingsError(f"{what} {file}: {error.strerror}") from None
