# SPDX-License-Identifier: MIT
"""One HTTP request in, an answer of its era out.  No socket."""
