"""`python -m discover.cli`."""

from discover.cli import main

if __name__ == "__main__":
    main()
