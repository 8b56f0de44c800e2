"""`uv run infer.py`: the interactive shell."""

from foredraft.__main__ import infer

if __name__ == "__main__":
    infer()
