# SPDX-License-Identifier: MIT
"""Spans of OpenTelemetry, for servers and clients whose program has set a provider of them.

`opentelemetry-api` is asked for where it is used; no module here loads it by being imported.
"""
