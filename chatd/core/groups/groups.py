"""Everything about groups that a worker does, put together.

Owns: Groups.
Elsewhere: its parts.
Fails: never.
"""

from __future__ import annotations

from chatd.core.groups.admission import GroupAdmission
from chatd.core.groups.members import GroupMembers
from chatd.core.groups.notify import GroupNotify
from chatd.core.groups.orders import GroupOrders
from chatd.core.groups.settings import GroupSettings
from chatd.core.plugins.pipeline import PluginPipeline
from chatd.core.services import Services


class Groups:
    def __init__(self, services: Services, notify: GroupNotify, plugins: PluginPipeline) -> None:
        self.notify = notify
        self.settings = GroupSettings(services, notify, plugins)
        self.admission = GroupAdmission(services, notify, plugins)
        self.members = GroupMembers(services, notify, plugins)
        self.orders = GroupOrders(self.settings, self.admission, notify)
