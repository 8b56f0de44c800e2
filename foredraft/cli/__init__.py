"""The command line: subcommands, the interactive shell, and how they look."""
