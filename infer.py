"""`uv run infer.py`: the interactive shell."""

from foredraft.cli.main import infer

if __name__ == "__main__":
    infer()
