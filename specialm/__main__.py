"""`python -m specialm`."""

import sys

from specialm.cli import main

sys.exit(main())
