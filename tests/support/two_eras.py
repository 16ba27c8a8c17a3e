# SPDX-License-Identifier: MIT
"""The modules of the revisions up to 2025-11-25 alone: the rest of the package works without them."""

from __future__ import annotations

LEGACY_ERA = (
    "endpoint.sessions",
    "endpoint.fleet_links",
    "endpoint.fleet_logs",
    "endpoint.fleet_session",
    "endpoint.fleet_sharing",
    "endpoint.fleet_pinned",
    "endpoint.fleet_records",
    "endpoint.fleet_sse",
    "endpoint.fleet_stores",
    "endpoint.fleet_streams",
    "endpoint.fleet_values",
    "endpoint.session_stores",
    "endpoint.session_table",
    "endpoint.legacy_sse",
    "endpoint.batches",
    "endpoint.calls",
    "endpoint.streams",
    "eras.batches",
    "eras.channel",
    "eras.asking",
    "eras.session",
    "eras.session_methods",
    "eras.values",
)
