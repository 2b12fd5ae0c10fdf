"""Entry point of `python -m fpdm` and of `accelerate launch -m fpdm`."""

import sys

from fpdm.cli import main

if __name__ == "__main__":
    sys.exit(main())
