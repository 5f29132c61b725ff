"""`python -m atomesh`, which is `atomesh`."""

import sys

from atomesh.cli import main

if __name__ == "__main__":
    sys.exit(main())
