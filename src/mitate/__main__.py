"""``python -m mitate``, the same as ``mitate``."""

from mitate.cli.app import main

if __name__ == "__main__":
    main()
