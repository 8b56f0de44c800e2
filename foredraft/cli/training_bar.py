"""How a training is shown: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foredraft.cli.output import say
from foredraft.escape import for_line
from foredraft.zoo.training import Progress as Reached

LINE_EVERY = 50  # steps between plain lines where there is no terminal


def training_bar() -> Progress:
    """Return the bar of a training; it is shown on a terminal only."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        disable=not sys.stdout.isatty(),
    )


def shown_steps(bar: Progress, name: str, total: int) -> Callable[[Reached, float], None]:
    """Return what shows the steps of a training, and the loss."""
    task = bar.add_task(for_line(name), total=total, loss="–")

    def show(reached: Reached, loss: float) -> None:
        if sys.stdout.isatty():
            bar.update(task, completed=reached.step, loss=f"{loss:.3f}")
        elif reached.step % LINE_EVERY == 0:
            held_out = f", held out {reached.losses[-1][2]:.3f}" if reached.losses else ""
            line = f"step {reached.step}: loss {loss:.3f}{held_out}, {reached.seconds:.0f} s"
            say(line, flush=True)

    return show


def shown_writing(bar: Progress, who: str, wanted: int) -> Callable[[int], None]:
    """Return what shows how far a network has come with the text that it writes."""
    task = bar.add_task(f"{who} writes", total=wanted, loss="–", visible=wanted > 0)

    def show(done: int) -> None:
        if sys.stdout.isatty():
            bar.update(task, completed=min(done, wanted))
        else:
            say(f"{who} has written {done:,} of {wanted:,} tokens", flush=True)

    return show
