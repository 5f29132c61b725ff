"""`python -m atomesh.testing.registry_world`: see `runner`."""

import sys

from atomesh.testing.registry_world.runner import main

if __name__ == "__main__":
    sys.exit(main())
