"""A progress bar on stderr: one line where it is a terminal, a line at the end where not."""

import sys
import time
from typing import Iterable, Iterator, Sequence, TypeVar

T = TypeVar("T")
WIDTH = 30
REFRESH = 0.2  # seconds


def show(what: str, done: float, note: str = "") -> None:
    """Draws the bar of `what` at the share `done`, in place."""
    bar = "#" * round(done * WIDTH)
    sys.stderr.write(f"\r{what:34.34} [{bar:{WIDTH}}] {done:4.0%} {note}\x1b[K")
    sys.stderr.flush()


def finish(what: str, started: float, note: str = "") -> None:
    """Ends the bar's line with the seconds since `started`."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{what:34.34} {time.monotonic() - started:7.1f} s {note}\n")


def progress(items: Sequence[T] | Iterable[T], what: str) -> Iterator[T]:
    """Yields the items of a sequence under a bar."""
    started, drawn = time.monotonic(), 0.0
    for done, item in enumerate(items):
        if sys.stderr.isatty() and time.monotonic() - drawn > REFRESH:
            show(what, done / len(items))
            drawn = time.monotonic()
        yield item
    finish(what, started)
