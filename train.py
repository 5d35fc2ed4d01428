"""`fairpp train` for `accelerate launch train.py --config ...`, which starts a file; see `fairpp_hf/cli/train.py`."""

import sys

from fairpp_hf.cli.train import main

if __name__ == "__main__":
    if status := main(prog="train.py"):
        sys.exit(status)
