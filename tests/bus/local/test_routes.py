"""Which peers a topic leads to."""

from __future__ import annotations

from chatd.bus.local.routes import Routes


def test_routes_follow_peers_and_topics_that_come_and_go() -> None:
    routes: Routes[str] = Routes()
    bits = {name: routes.join(name) for name in ("a", "b", "c")}
    for name, topics in {"a": (1, 2), "b": (2, 3), "c": (2,)}.items():
        routes.add(bits[name], topics)
    assert [sorted(routes.to(topic)) for topic in range(5)] == [[], ["a"], ["a", "b", "c"], ["b"], []]
    routes.remove(bits["a"], [1, 2, 3, 4])
    assert [sorted(routes.to(topic)) for topic in range(5)] == [[], [], ["b", "c"], ["b"], []]
    routes.leave(bits["b"])
    assert (routes.to(2), 3 in routes, len(routes)) == (("c",), False, 1)
    assert routes.join("d") == bits["b"]
    routes.add(bits["b"], [2])
    assert sorted(routes.to(2)) == ["c", "d"]
