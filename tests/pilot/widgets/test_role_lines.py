"""A role looks the same in every widget that draws lines in roles."""

from textual.app import App, ComposeResult
from textual.widget import Widget

from tuitune.workbench.parts.role_lines import STYLES, Looks, RoleLines
from tuitune.workbench.parts.role_scroll import RoleScroll
from tuitune.workbench.views.dataset.pane import LinePane
from tuitune.workbench.views.tokens.scroll import TokenScroll

KINDS: list[type[Widget]] = [RoleLines, RoleScroll, LinePane, TokenScroll]


class Host(App[None]):
    def compose(self) -> ComposeResult:
        yield from (kind() for kind in KINDS)


async def test_roles_look_the_same_everywhere() -> None:
    app = Host()
    async with app.run_test():
        looks = [Looks(app.query_one(kind)) for kind in KINDS]
        seen = {role: {(str(look[role].color), look[role].bold, look[role].reverse) for look in looks} for role in STYLES}
        assert [role for role, found in seen.items() if len(found) != 1] == []
        assert len({(*found,) for found in seen.values()}) >= 8, "and differ from each other"
