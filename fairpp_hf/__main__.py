"""`python -m fairpp_hf` is `fairpp`."""

import sys

from fairpp_hf.cli import main

if __name__ == "__main__":
    sys.exit(main())
