import sys

from hushwork.cli import main

if __name__ == "__main__":
    sys.exit(main())
