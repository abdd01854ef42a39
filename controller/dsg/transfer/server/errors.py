"""What is not done, as an exception that carries the answer."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from dsg.storage.errors import InvalidValue, NotFound, OutOfSpace, QuotaExceeded, StorageError
from dsg.transfer.problems import ABOUT, Code, Problem

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Refusal(Exception):
    """Raised where a request is not carried out; the answer is its problem."""

    def __init__(self, code: Code, message: str = "", path: str | None = None) -> None:
        """Without `message` the answer says what the code means."""
        about = ABOUT[code]
        self.code = code
        self.problem = Problem(code, f"{message or about.means} {about.advice}".strip(), path)
        super().__init__(self.problem.message)

    @property
    def status(self) -> int:
        """Return the HTTP status of the answer."""
        return ABOUT[self.code].status


class Cut(Exception):
    """Raised where an answer that has begun can't be ended rightly: the connection is closed, so the client knows."""


@contextmanager
def file_work(does: str, path: str | None = None) -> Iterator[None]:
    """Raise Refusal in place of what the operating system or the storage layer says.

    `does` is what was tried, in words for the client; the node's own directories are not told.
    """
    try:
        yield
    except NotFound as error:
        raise Refusal(Code.NOT_FOUND, f"Cannot {does}: it is not there.", path) from error
    except InvalidValue as error:
        raise Refusal(Code.NOT_FOUND, f"Cannot {does}: it is no regular file.", path) from error
    except (OutOfSpace, QuotaExceeded) as error:
        raise Refusal(Code.NO_SPACE, f"Cannot {does}: {ABOUT[Code.NO_SPACE].means}", path) from error
    except StorageError as error:
        raise Refusal(Code.STORAGE, f"Cannot {does}: the storage refuses ({type(error).__name__}).", path) from error
    except OSError as error:
        if error.errno in _ABSENT:
            raise Refusal(Code.NOT_FOUND, f"Cannot {does}: it is not there.", path) from error
        if error.errno in _NO_SPACE:
            raise Refusal(Code.NO_SPACE, f"Cannot {does}: {ABOUT[Code.NO_SPACE].means}", path) from error
        raise Refusal(Code.STORAGE, f"Cannot {does}: {error.strerror}.", path) from error
