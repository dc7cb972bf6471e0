"""``python -m lrfdse``: the command line where its script is not on the path."""

from lrfdse.cli import main

if __name__ == "__main__":
    main()
