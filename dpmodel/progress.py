"""A bar on standard error for what takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int, is_wanted: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error if it ``is_wanted``, and the function that sets how many of ``total`` are done."""
    if not is_wanted:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
