"""The doors: `python -m foredraft`, `foredraft`, `infer.py`; quiet from the first moment.

Nothing of ours is imported before Ctrl-C is quiet and the standard streams have their places.
"""

import os
import signal
from types import FrameType


def main() -> None:
    """The `foredraft` command."""
    _open(is_shell=False)


def infer() -> None:
    """The shell, as `infer.py` opens it."""
    _open(is_shell=True)


def _open(*, is_shell: bool) -> None:
    """Load what a command line needs, and run it; Ctrl-C meanwhile ends with exit code 130."""
    _occupy_streams()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:  # else it is ignored, as in `nohup`, or somebody else's
        signal.signal(signal.SIGINT, _leave)
    from foredraft.cli.main import prepared

    run = prepared(None, is_shell=is_shell)
    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave at once: an exception would have to pass through foreign code that is half loaded."""
    os._exit(130)


def _occupy_streams() -> None:
    """Open what is closed of 0, 1 and 2: the next file would take its place, and its output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


if __name__ == "__main__":
    main()
