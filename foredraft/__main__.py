"""`python -m foredraft`: the same as the `foredraft` command."""

from foredraft.cli.main import main

if __name__ == "__main__":
    main()
