"""Where packages come from: a web server or a folder."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

from common.errors import InputError

__all__ = ["Location"]

_WEB = ("http", "https")
_PATIENCE = 60.0  # seconds without an answer
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Location:
    """A file or folder, here or on a web server.

    Args:
        text: a path or an http(s) address.

    Raises:
        InputError: an address of another kind.
    """

    text: str

    def __post_init__(self) -> None:
        scheme = urlsplit(self.text).scheme
        # A drive of Windows looks like a scheme of one letter.
        if len(scheme) > 1 and not self.is_web and not Path(self.text).exists():
            raise InputError(self.text, "is neither a path nor an http(s) address", "pass one of these")

    def __str__(self) -> str:
        return self.text

    @property
    def is_web(self) -> bool:
        return urlsplit(self.text).scheme.lower() in _WEB

    @property
    def name(self) -> str:
        """The last part."""
        return Path(urlsplit(self.text).path if self.is_web else self.text).name

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder; on a server, whether it does not end as a file does that is of use here."""
        return not self.name.endswith((".json", ".zip")) if self.is_web else Path(self.text).is_dir()

    def inside(self, name: str) -> Location:
        """Return a file in this folder."""
        return Location(f"{self.text.rstrip('/')}/{name}" if self.is_web else str(Path(self.text) / name))

    def beside(self, name: str) -> Location:
        """Return what ``name`` means in this file: another address, or a file in the same folder.

        Raises:
            InputError: a path that leads to another folder of this machine.
        """
        if self.is_web:
            return Location(urljoin(self.text, name))
        if urlsplit(name).scheme.lower() in _WEB:
            return Location(name)
        if Path(name).name != name or "\\" in name:
            raise InputError(self.text, f"names '{name}', which is not beside it", "do not use these packages")
        return Location(str(Path(self.text).with_name(name)))

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for reading.

        Yields:
            Its bytes as a stream.

        Raises:
            InputError: it cannot be had. Errors of the network within the block count as well.
        """
        try:
            if self.is_web:
                request = urllib.request.Request(self.text, headers={"User-Agent": "tools.fetch"})
                with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                    if urlsplit(self.text).scheme == "https" and urlsplit(answer.url).scheme != "https":
                        raise InputError(self, f"was sent on to {answer.url}, which is not encrypted", "ask its owner")
                    yield answer
            else:
                with open(self.text, "rb") as file:
                    yield file
        except urllib.error.HTTPError as error:
            raise InputError(self, f"cannot be had ({error.code} {error.reason})", "check the address") from error
        except urllib.error.URLError as error:
            raise InputError(self, f"cannot be had ({error.reason})", "check the address and the network") from error
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(error) or type(error).__name__
            raise InputError(self, f"broke off ({reason})", "run the same command again") from error
        except FileNotFoundError as error:
            raise InputError(self, "is not there", "check the path") from error
        except (PermissionError, IsADirectoryError) as error:
            raise InputError(self, f"cannot be read ({error.strerror})", "check the path") from error

    def read(self, limit: int) -> bytes:
        """Read a small file.

        Args:
            limit: bytes that it may have.

        Raises:
            InputError: it cannot be had, or is larger.
        """
        with self.open() as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise InputError(self, f"has more than {limit} bytes", "it is not what it should be: check the address")
        return data

    def copy(self, target: Path, limit: int) -> tuple[int, str]:
        """Copy the file.

        Args:
            target: where to.
            limit: bytes that it may have.

        Returns:
            Its bytes and its SHA-256.

        Raises:
            InputError: it cannot be had as a whole, or is larger.
        """
        digest, size = hashlib.sha256(), 0
        with self.open() as stream, open(target, "wb") as file:
            announced = getattr(stream, "length", None)  # a server's Content-Length
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise InputError(self, f"has more than the {limit} bytes that it should have", "do not use it")
                digest.update(chunk)
                file.write(chunk)
        if announced is not None and size < announced:
            raise InputError(self, f"broke off after {size} of {announced} bytes", "run the same command again")
        return size, digest.hexdigest()
