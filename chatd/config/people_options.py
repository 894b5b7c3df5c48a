"""The sections [people], [groups] and [retention] of the configuration.

Owns: PeopleOptions, GroupOptions, RetentionOptions.
Elsewhere: the whole schema (config.schema); what the options mean (core.consent, core.groups, core.retention).
Fails: never; a value outside its limits is found by config.validate.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from chatd.config.option import option

Audience = Literal["everybody", "contacts", "friends", "nobody"]
JoinPolicy = Literal["open", "approval", "invite"]
LEAST_DAYS = 7
"""A message sent again under its fp is recognised for this many days (P2), so it is kept for as long."""
_WHO = "contacts = friends and members of a common group; users can choose otherwise for themselves"


class PeopleOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[people], what users accept who have not chosen for themselves"""

    may_write: Annotated[Audience, option(f"who may write to a user; {_WHO}", "live")] = "everybody"
    may_ask: Annotated[Audience, option(f"who may ask a user to become a friend; {_WHO}", "live")] = "everybody"
    may_see: Annotated[
        Audience, option(f"who may see a user's profile and whether the user is online; {_WHO}", "live")
    ] = "contacts"
    may_add: Annotated[
        Audience,
        option(
            f"who may add a user to a group; others can only invite them; nobody = nor can anybody invite them; {_WHO}",
            "live",
        ),
    ] = "friends"
    ask_again_s: Annotated[
        float,
        option(
            "how long a refused friend request or request to join, or a declined invitation, cannot be repeated",
            "live",
            ge=0,
            le=365 * 86400,
        ),
    ] = 7 * 86400.0
    edit_s: Annotated[
        float,
        option("how long a sender can edit a message after sending it; 0 = never", "live", ge=0, le=365 * 86400),
    ] = 15 * 60.0
    recall_s: Annotated[
        float,
        option("how long a sender can recall a message after sending it; 0 = never", "live", ge=0, le=365 * 86400),
    ] = 24 * 3600.0


class GroupOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[groups], what a new group is like; its owner can change it"""

    chatserver_join: Annotated[
        JoinPolicy,
        option(
            "how groups made by the command of the chatserver wire are joined: open = by their number, approval = "
            "after the owner or an admin has agreed, invite = by invitation. Old clients know no way but the number",
            "live",
        ),
    ] = "open"
    mobileimsdk_join: Annotated[
        JoinPolicy, option("the same for groups made by the operation group.create without saying how", "live")
    ] = "invite"
    chatserver_whole_history: Annotated[
        bool,
        option(
            "whether members of groups made by the command of the chatserver wire can read what was written before "
            "they joined",
            "live",
        ),
    ] = False
    mobileimsdk_whole_history: Annotated[
        bool, option("the same for groups made by the operation group.create without saying so", "live")
    ] = False
    mentions: Annotated[
        int, option("maximum members that one message can mention by name; 0 = none", "live", ge=0, le=1000)
    ] = 50
    typing_members: Annotated[
        int,
        option(
            "groups with more members than this do not show who is writing; 0 = no group does", "live", ge=0, le=5000
        ),
    ] = 100
    pending_per_group: Annotated[
        int,
        option("maximum open requests to join a group, and open invitations to it", "live", ge=1, le=1000000),
    ] = 1000
    pending_per_user: Annotated[
        int,
        option("maximum open requests of one user to join groups, and open invitations", "live", ge=1, le=100000),
    ] = 100


class RetentionOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[retention], how long messages are kept"""

    private_days: Annotated[
        float,
        option(
            "days after which messages between two users are deleted, at least 7; 0 = never", "live", ge=0, le=36500
        ),
    ] = 0.0
    group_days: Annotated[
        float, option("days after which messages of groups are deleted, at least 7; 0 = never", "live", ge=0, le=36500)
    ] = 0.0
    dissolved_days: Annotated[
        float,
        option(
            "days after which the messages of a dissolved group, which nobody can read, are deleted; 0 = never",
            "live",
            ge=0,
            le=36500,
        ),
    ] = 30.0
    events_days: Annotated[
        float,
        option(
            "days after which an event is deleted even if a webhook has not taken it, and a webhook is forgotten that "
            "no host has configured; messages are kept as above",
            "live",
            ge=0.01,
            le=3650,
        ),
    ] = 7.0
    events_rows: Annotated[
        int,
        option(
            "maximum events kept for webhooks that do not take them; the oldest are deleted", "live", ge=1, le=100000000
        ),
    ] = 1000000
    rows_per_s: Annotated[
        int,
        option(
            "maximum messages deleted per second and host, so that deleting does not delay new messages",
            "live",
            ge=10,
            le=1000000,
        ),
    ] = 10000
