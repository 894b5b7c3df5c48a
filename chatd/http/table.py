"""The table of all routes.

Owns: ROUTES, in the order of the documentation.
Elsewhere: the routes of each resource, in the modules named here.
Fails: never.
"""

from __future__ import annotations

from chatd.http import messages
from chatd.http.resources import (
    conversations,
    exports,
    files,
    groups,
    members,
    message_changes,
    relations,
    sessions,
    tokens,
    users,
    webhooks,
)
from chatd.http.route import Route

ROUTES: tuple[Route, ...] = (
    *messages.ROUTES,
    *conversations.ROUTES,
    *message_changes.ROUTES,
    *files.ROUTES,
    *users.ROUTES,
    *sessions.ROUTES,
    *exports.ROUTES,
    *relations.ROUTES,
    *groups.ROUTES,
    *members.ROUTES,
    *tokens.ROUTES,
    *webhooks.ROUTES,
)
