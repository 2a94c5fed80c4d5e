"""``python -m genctl``, the form that torchrun wants."""

import sys

from genctl.cli.main import main

sys.exit(main())
