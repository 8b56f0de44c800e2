"""`uv run infer.py`: the interactive shell."""

from specdec.cli.main import infer

if __name__ == "__main__":
    infer()
