"""What leaves the library: files that appear complete or not at all, and tables in columns."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

Rows = Sequence[Sequence[str]]


def write(path: Path, save: Callable[[Any], object]) -> None:
    """Let ``save`` write a file that appears at ``path`` complete or not at all, under its own
    permissions if it was there. Where ``path`` is a link, it stays one and what it points to is
    replaced; a device or a pipe is written to.

    Raises:
        OSError: if there is no room or no permission, naming ``path``.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with open(target, "wb") as file:
                return _saved(save, file)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "wb") as file:
                _saved(save, file)
                # Or else a power cut may leave the new name without content.
                os.fsync(file.fileno())
            if target.exists():
                if not os.access(target, os.W_OK):  # the folder's permission would be enough
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
            del error.filename2  # of a None the message would say "-> None"
        raise


def _saved(save: Callable[[Any], object], file: BinaryIO) -> None:
    """Save to ``file``. What fails in writing is told as it was: savers make other errors of it."""
    out = _Remembering(file)
    try:
        save(out)
        file.flush()
    except Exception:
        if out.failed is not None:
            raise out.failed from None
        raise


class _Remembering(io.RawIOBase):
    """A file that knows the error that ended its writing."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failed = error
            raise

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.file.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def file_at(path: str | os.PathLike[str]) -> Path:
    """The path of a file. Raises ValueError for one that cannot be a file's."""
    if "\0" in os.fspath(path) or Path(path).is_dir():
        raise ValueError(f"path={os.fspath(path)!r}: a folder, or no path; expected that of a file")
    return Path(path)


def unwritable(path: Path) -> str | None:
    """Why no file can be written at ``path``, if so: to be told before the work, not after it."""
    try:
        path = Path(os.path.realpath(path))
    except ValueError as error:  # a null character
        return str(error)
    if path.is_dir():
        return "it is a directory"
    if not path.parent.is_dir():
        file = next((each for each in path.parents if each.exists()), path)
        return "there is no such directory" if file.is_dir() else f"{file} is not a directory"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return "no permission"
    return None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """The only one at work on ``path``, among processes and threads, until the block's end or the
    process's. Temporary files of those that were killed while writing it are removed.

    Raises:
        BlockingIOError: if another one is at it, saying which process.
        OSError: if no file can be made beside it.
    """
    path = Path(os.path.realpath(path))
    lock = path.with_name(f".{path.name}.lock")
    file = _taken(lock)
    try:
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        for each in path.parent.iterdir():
            if each.name.startswith(f".{path.name}.") and each.suffix == ".tmp":
                each.unlink(missing_ok=True)
        yield
    finally:
        # Where open files cannot be removed the lock goes first, and another run may have it then.
        if sys.platform == "win32":
            file.close()
        with contextlib.suppress(OSError):
            lock.unlink()
        file.close()


def _taken(lock: Path) -> BinaryIO:
    """The open file ``lock``, locked: by the system, which lets go of it when the process ends,
    however it ends."""
    while True:
        file = open(lock, "a+b")  # noqa: SIM115
        try:
            _hold(file)
        except OSError as error:
            file.seek(0)
            owner = file.read().decode(errors="replace") or "unknown"
            file.close()
            raise BlockingIOError(error.errno, f"process {owner} is writing it") from None
        # Another run may have ended in between and removed the file that was opened here.
        if lock.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
            return file
        file.close()


def _hold(file: BinaryIO) -> None:
    """Lock the file, or raise OSError; where the file system has no locks, do without."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 30)  # far from what is in it, which could not be read otherwise
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise


def columns(rows: Rows, align: str = "", *, gap: int = 2, width: int | None = None) -> str:
    """Rows of cells, all of one length, as lines; every column is as wide as its widest cell.

    Args:
        rows: the cells, the head's among them.
        align: "<" or ">" for each column; those it does not reach are "<".
        gap: spaces between columns.
        width: where lines end: the last column's cells go on below themselves. They have 40
            characters even if the other columns leave less.
    """
    if width is not None:
        rows = list(_wrapped(rows, gap, width))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = align.ljust(len(widths), "<")
    return "\n".join(
        (" " * gap).join(map("{:{}{}}".format, row, sides, widths)).rstrip() for row in rows
    )


def _wrapped(rows: Rows, gap: int, width: int) -> Iterator[Sequence[str]]:
    others = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    room = max(40, width - sum(others) - gap * len(others))
    for *cells, last in rows:
        parts = textwrap.wrap(last, room, break_long_words=False, break_on_hyphens=False)
        for k, part in enumerate(parts or [""]):
            yield [*(cell if k == 0 else "" for cell in cells), part]
