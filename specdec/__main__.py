"""`python -m specdec`: the same as the `specdec` command."""

from specdec.cli.main import main

if __name__ == "__main__":
    main()
