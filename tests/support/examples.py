# SPDX-License-Identifier: MIT
"""How many examples the hypothesis properties try.

A property that needs thousands of examples to be believed tries a tenth of them in the short run (`python -m pytest`),
and all of them in the whole run (`python -m pytest -m ""`, which CI does).  Any other property tries 20 and 100.
MCP_H11_EXAMPLES=all asks for all of them in any run.
"""

from __future__ import annotations

import os

from hypothesis import settings

# No example of any property has a deadline, 200 ms of the clock otherwise: a machine is busy at times.
settings.register_profile("short", deadline=None, max_examples=20)
settings.register_profile("whole", deadline=None)

VARIABLE = "MCP_H11_EXAMPLES"
SHARE = 10  # the short run tries one example in so many,
LEAST = 25  # and at least these


def whole() -> bool:
    """Whether this is the whole run, which may take its time."""
    return os.environ.get(VARIABLE) == "all"


def load_profile() -> None:
    """Sets how many examples a property without settings of its own tries; before test modules are imported."""
    settings.load_profile("whole" if whole() else "short")


def examples(number: int) -> settings:
    """Settings for a property of `number` examples."""
    wanted = number if whole() else max(number // SHARE, LEAST)
    return settings(max_examples=min(wanted, number))
