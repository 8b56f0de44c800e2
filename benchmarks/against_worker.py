"""One side of `against.py`: the package of one checkout, loaded once; a generation a line.

It runs with the code of any commit, so it uses what all of them have, and nothing of its neighbours
here. Argument: the checkout, which is first in PYTHONPATH too. Each line of standard input is a
request, each line of standard output its answer, in JSON; the first line says what was loaded.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def load_package(checkout: Path) -> Any:
    """Import the package that lies in a checkout, and make sure it is that one."""
    (engine,) = checkout.glob("*/engine.py")  # older commits have another name for the package
    package = importlib.import_module(engine.parent.name)
    assert Path(str(package.__file__)).resolve().is_relative_to(checkout.resolve())
    return package


def answer(engine: Any, config: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Generate; return the tokens and the seconds they took."""
    told = config.replace(**request["settings"])
    begin = time.perf_counter()
    done = engine.generate(request["prompt"], told, method=request["method"])
    seconds = time.perf_counter() - begin
    return {"tokens": list(done.tokens), "seconds": seconds}


def main() -> None:
    """Load, say so, and answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def say(values: dict[str, Any]) -> None:
        print(json.dumps(values), file=answers, flush=True)

    package = load_package(Path(sys.argv[1]))
    engine, config = package.Engine.load(), package.DecodingConfig()
    say({"processor_seconds": time.process_time(), "stop_if_unknown": config.stop_if_unknown})
    for line in sys.stdin:
        say(answer(engine, config, json.loads(line)))


if __name__ == "__main__":
    main()
