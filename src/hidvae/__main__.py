"""``python -m hidvae``, the same as ``hidvae``."""

from __future__ import annotations

import sys

from hidvae.apps.cli import main

sys.exit(main())
