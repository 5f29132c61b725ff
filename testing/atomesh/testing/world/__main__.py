"""`python -m atomesh.testing.world`: see `runner`."""

import sys

from atomesh.testing.world.runner import main

if __name__ == "__main__":
    sys.exit(main())
