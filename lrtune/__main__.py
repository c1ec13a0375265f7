"""`python -m lrtune` is `lrtune`."""

from lrtune.cli.commands import main

if __name__ == "__main__":
    main()
