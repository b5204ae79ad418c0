"""What the outside does to a command: streams that are closed, full or not read, signals that end
it. None of it may cost what is finished."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


class Stopped(KeyboardInterrupt):
    """A signal asked for the end, as Ctrl-C does. ``status`` is the exit status."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def status_of(interrupt: BaseException) -> int:
    """The exit status of what an interrupt ended: 130 for Ctrl-C."""
    return getattr(interrupt, "status", 128 + signal.SIGINT)


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, unless somebody has said what they do (nohup
    ignores the second). Windows has neither; there Ctrl-Break is one more Ctrl-C."""
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a terminal that closes says so twice
        raise Stopped(number)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Forgiving:
    """A text stream that may be missing, closed, full or without a reader: what cannot be written
    is dropped, and the first error remembered, for the end."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream if stream is None or not stream.closed else None
        self.failed: OSError | None = None

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def _try(self, name: str, *arguments: str) -> None:
        if self.stream is None or self.failed is not None:
            return
        try:
            getattr(self.stream, name)(*arguments)
        except UnicodeEncodeError:  # the table has Greek letters, the terminal may not
            code = self.stream.encoding
            self.stream.write(arguments[0].encode(code, "replace").decode(code))
        except OSError as error:
            self.failed = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def streams() -> Iterator[Forgiving]:
    """Forgiving streams for the block. Gives that of stdout."""
    if sys.stdout is None or sys.stderr is None:
        _fill()
    out, err = Forgiving(sys.stdout), Forgiving(sys.stderr)
    kinds: Any = (out, err)
    try:
        with contextlib.redirect_stdout(kinds[0]), contextlib.redirect_stderr(kinds[1]):
            yield out
    finally:
        for each in (out, err):
            each.flush()
            if each.failed is not None:
                _abandon(each.stream)


def _fill() -> None:
    """Put the null device where the file descriptors 0 to 2 are closed: the next file to be opened
    would be one of them, and get what is said to it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _abandon(stream: Any) -> None:
    """Python would complain once more when it flushes the stream on the way out."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
