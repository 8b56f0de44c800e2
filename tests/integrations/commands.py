"""Command lines of vLLM, read by vLLM's own parser and made its configuration."""

from __future__ import annotations

import shlex
from typing import Any

from foredraft.zoo import bundled_path


def read_by_vllm(command: str) -> Any:
    """Return the configuration that vLLM makes of `vllm serve MODEL …`.

    The bundled target stands for the model, which need not be there.

    Args:
        command: as it would be typed, on any number of lines.

    Raises:
        SystemExit: vLLM's parser refuses it.
        ValueError: vLLM refuses what it says.
    """
    import vllm.entrypoints.cli.serve as serve  # type: ignore[import-not-found]
    from vllm.engine.arg_utils import AsyncEngineArgs  # type: ignore[import-not-found]
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]

    words = shlex.split(command.replace("\\\n", " "))
    while words and "=" in words[0]:
        del words[0]  # a variable of the environment
    assert words[:1] == ["vllm"], command
    parser = FlexibleArgumentParser()
    commands = parser.add_subparsers(required=True, dest="subparser")
    for one in serve.cmd_init():
        one.subparser_init(commands).set_defaults(dispatch_function=one.cmd)
    args = parser.parse_args(words[1:])
    args.model = str(bundled_path("target"))
    args.tokenizer = args.served_model_name = None
    return AsyncEngineArgs.from_cli_args(args).create_engine_config()
