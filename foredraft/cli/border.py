"""What surrounds every command: each end is an exit code, and at most one sentence says why.

0: done, or the reader of the output has left. 2: refused, or failed. 130: interrupted. Other codes
are the command's own.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from foredraft.cli.output import complain
from foredraft.errors import ConfigError, ForedraftError, foreign
from foredraft.escape import for_line, for_terminal
from foredraft.files import reason_of
from foredraft.plugins import load_plugins

LOST = (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG, errno.EDQUOT)
TRACEBACK = "FOREDRAFT_TRACEBACK"  # set to anything: developers see where an error comes from


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Parse a command line and run what it names.

    Raises:
        SystemExit: with the exit code, unless all went well.
    """
    if sys.stderr is None:  # closed; print would choose standard output in its place
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    warnings.formatwarning = _warning
    error, code = _attempt(lambda: _run(parser, argv), parser.prog)
    lost = _flush() or _lost_by(error)
    if error is not None and os.environ.get(TRACEBACK):
        print(for_terminal("".join(traceback.format_exception(error))), file=sys.stderr)
    if lost is None:
        if error is not None:
            complain(f"error: {error}")
    elif isinstance(lost, BrokenPipeError):  # the reader has left, e.g. `| head`
        code = code if error is None else 0
    else:
        complain(f"error: cannot write the output: {reason_of(lost)}")
        code = code or 2
    if code or lost is not None:
        raise SystemExit(code)


def _attempt(command: Callable[[], None], name: str) -> tuple[ForedraftError | None, int]:
    """Return what a command was refused for, and its exit code."""
    try:
        with foreign(name, f"set {TRACEBACK}=1 to see where", ForedraftError):
            command()
    except ForedraftError as error:
        return error, 2
    except KeyboardInterrupt:
        return None, 130
    except SystemExit as end:
        return None, end.code if isinstance(end.code, int) else int(end.code is not None)
    return None, 0


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
    if sys.stdout is None:
        raise ConfigError("standard output is closed; send it to a file, or to /dev/null")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a code page without γ is no reason to die
        sys.stdout.reconfigure(errors="backslashreplace")
    args = parser.parse_args(argv)
    if "imports" in args:  # what decodes reads the registries
        load_plugins(args.imports)
    args.run(args)


def _warning(message: Warning | str, *where: object, **line: object) -> str:
    """Return a warning as one line: whose code it comes from helps nobody who runs a command."""
    return f"warning: {for_line(str(message))}\n"


def _flush() -> OSError | None:
    """Write out what is left; where that fails, forget it, since the exit would try once more."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        sys.stdout = io.StringIO()
        return error
    return None


def _lost_by(error: ForedraftError | None) -> OSError | None:
    """Return why a stream without a buffer took no more; errors about files have a name."""
    cause = error.__cause__ if error is not None else None
    lost = isinstance(cause, OSError) and cause.errno in LOST and cause.filename is None
    return cause if lost else None  # type: ignore[return-value]
