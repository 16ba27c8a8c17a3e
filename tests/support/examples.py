# SPDX-License-Identifier: MIT
"""How many examples the long hypothesis properties try.

A property that needs thousands of examples to be believed tries a tenth of them in the short run (`python -m pytest`),
and all of them in the whole run (`python -m pytest -m ""`, which CI does).  MCP_H11_EXAMPLES=all asks for all of them
in any run.
"""

from __future__ import annotations

import os

from hypothesis import settings

# No example of any property has a deadline, 200 ms of the clock otherwise: a machine is busy at times.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

VARIABLE = "MCP_H11_EXAMPLES"
SHARE = 10  # the short run tries one example in so many


def examples(number: int) -> settings:
    """Settings for a property of `number` examples."""
    wanted = number if os.environ.get(VARIABLE) == "all" else max(number // SHARE, 50)
    return settings(max_examples=min(wanted, number))
