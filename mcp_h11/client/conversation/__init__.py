# SPDX-License-Identifier: MIT
"""The messages between a client and one server: calls and their answers, questions, callbacks, kept results.

It is told the transport and the revision, and finds neither; `client` does.
"""
