"""TLS, tokens, and the one rule about both: a token goes in the clear to this machine only, unless that is
asked for.

Both clients share it. Nothing here connects; files of TLS are read.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

import grpc

#: The path of a PEM file, or what such a file has in it.
PEM = Union[str, "os.PathLike[str]", bytes]
#: A token, or what gives one for each call.
Token = Union[str, Callable[[], str]]
AsyncToken = Union[str, Callable[[], Union[str, Awaitable[str]]]]
Metadata = tuple[tuple[str, Union[str, bytes]], ...]

#: The largest PEM file. The bundle of all public authorities has a quarter of that.
_PEM_BYTES_MAX = 1 << 20
#: The server takes 8 KiB of headers in all.
_TOKEN_CHARACTERS_MAX = 8 << 10


@dataclass(frozen=True)
class TLS:
    """The configuration of TLS. Each part is the path of a PEM file, or its content as bytes.

    `ca`: the authorities to trust. Without it: those that come with grpcio, which are the public ones, or those
    of the file that the variable GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names.

    `certificate` and `key`: the client's own, with its chain, for a server that requires one.

    Files are read when the client is made. Raises ValueError for half of a pair, and when the client is made
    for content that is not PEM, and OSError for a file that cannot be read.
    """

    ca: PEM | None = None
    certificate: PEM | None = None
    key: PEM | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are needed together")


def _pem(what: str, pem: PEM | None) -> bytes | None:
    if pem is None:
        return None
    if isinstance(pem, bytes):
        content, source = pem, "the bytes given"
    else:
        with Path(pem).open("rb") as file:
            content, source = file.read(_PEM_BYTES_MAX + 1), str(pem)
    if len(content) > _PEM_BYTES_MAX:
        raise ValueError(f"{what}: {source}: is larger than {_PEM_BYTES_MAX} bytes")
    label = rb"PRIVATE KEY" if what == "key" else rb"CERTIFICATE"
    if not re.search(rb"-----BEGIN [A-Z ]*" + label + rb"-----", content):
        # grpc would only say that the server cannot be reached, once a call is made.
        raise ValueError(f"{what}: {source}: has no {label.decode().lower()} in PEM")
    return content


def _channel_credentials(tls: bool | TLS) -> grpc.ChannelCredentials | None:
    if tls is False:
        return None
    if tls is True:
        tls = TLS()
    if not isinstance(tls, TLS):
        raise TypeError("tls must be True, False or a signalbox.TLS")
    return grpc.ssl_channel_credentials(
        _pem("ca", tls.ca), _pem("key", tls.key), _pem("certificate", tls.certificate)
    )


# Targets, as https://github.com/grpc/grpc/blob/master/doc/naming.md has them. What is not clearly this machine
# is another one: names that a resolver would have to be asked about, escaped parts, schemes not known here.

_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([^:\[\]/?#%@\s]+)(?::\d+)?|([0-9A-Fa-f:.]+)")


def is_loopback(target: str) -> bool:
    """Whether a gRPC target can only be on this machine: Unix sockets, 127.0.0.0/8 (also as IPv4-mapped
    addresses), ::1, and the name localhost."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return True
    if colon and scheme in ("ipv4", "ipv6"):
        # There is no DNS server in the target, but there may be several addresses, separated by commas.
        addresses = rest.removeprefix("///").removeprefix("/").split(",")
        return all(_is_loopback_host(address, names=False) for address in addresses)
    if colon and scheme == "dns":
        # The part between the slashes is a DNS server, which could resolve localhost to any address.
        return _is_loopback_host(rest.removeprefix("///"), names=True)
    return _is_loopback_host(target, names=True)


def _is_loopback_host(text: str, names: bool) -> bool:
    match = _HOST.fullmatch(text)
    if match is None:
        return False
    host = match[1] or match[2] or match[3]
    if host.lower() == "localhost":
        return names
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _field(token: object) -> tuple[str, str]:
    """The metadata of a token. No error says anything of it."""
    if not isinstance(token, str):
        raise TypeError(f"the token is a {type(token).__name__}, and must be a str")
    # The line's end that a file has is no part of it.
    token = token.strip()
    if not token:
        raise ValueError("the token is empty")
    # Checked here, for grpc shows in its own error the metadata that it refuses.
    if len(token) > _TOKEN_CHARACTERS_MAX or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError(
            f"the token has more than {_TOKEN_CHARACTERS_MAX} characters, or characters that a header cannot carry"
        )
    return ("authorization", f"Bearer {token}")


class Security:
    """The transport security of a client, and the credentials that it sends with each call."""

    def __init__(
        self,
        target: str,
        token: Any,
        tls: bool | TLS,
        insecure: bool,
        metadata: Sequence[tuple[str, str | bytes]],
    ) -> None:
        self._metadata: Metadata = tuple(metadata)
        if any(key.lower() == "authorization" for key, _ in self._metadata):
            raise ValueError("metadata has authorization: give token= instead")
        #: None: without TLS.
        self.credentials = _channel_credentials(tls)
        #: Channel arguments that a caller cannot change.
        self.options: tuple[tuple[str, Any], ...] = ()
        if insecure and self.credentials is not None:
            raise ValueError(
                "insecure=True sends a token without TLS, and tls asks for TLS: remove one of them "
                "(tls=TLS(ca=…) says which authorities to trust)"
            )
        if token is not None and self.credentials is None:
            if is_loopback(target):
                # grpc would go through a proxy to this machine too, and show it the token: one of http_proxy, or one of
                # GRPC_ADDRESS_HTTP_PROXY, which is used for no address if none is enabled.
                self.options = (
                    ("grpc.enable_http_proxy", 0),
                    ("grpc.address_http_proxy", ""),
                    ("grpc.address_http_proxy_enabled_addresses", ""),
                )
            elif not insecure:
                raise ValueError(
                    f"there is a token, {target} is not on this machine, and without TLS the token could be "
                    "read on the network: give tls=True or tls=TLS(ca=…), or insecure=True to send it in the clear"
                )
        #: Each call asks for the token, which may be another one than before.
        self.renews = callable(token)
        self._token: Callable[[], Any] | None = token if callable(token) else None
        if token is not None and not callable(token):
            self._metadata += (_field(token),)

    def metadata(self) -> Metadata:
        """The metadata of the next call. Raises what the token's callable raises."""
        return self._metadata if self._token is None else (*self._metadata, _field(self._token()))

    async def async_metadata(self) -> Metadata:
        """The same, where the callable may give an awaitable, which is awaited without a bound."""
        if self._token is None:
            return self._metadata
        token = self._token()
        return (*self._metadata, _field(await token if isinstance(token, Awaitable) else token))
