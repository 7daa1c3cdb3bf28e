"""python -m deeplab_repro"""

import sys

from deeplab_repro.cli import main

sys.exit(main())
