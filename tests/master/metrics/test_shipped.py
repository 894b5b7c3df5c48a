"""The dashboard and the alerts that are shipped: they use metrics that exist, and fire when they should."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from chatd.counters import Field
from chatd.master.metrics import table
from chatd.master.metrics.table import EXPORTS, Kind, LeftOut
from chatd.scoreboard import FIELDS

ROOT = Path(__file__).parents[3]
RULES = ROOT / "etc" / "prometheus" / "chatd.rules.yml"
RULE_TESTS = [Path(__file__).with_name(name) for name in ("rules_test.yml", "rules_slow_test.yml")]
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
DASHBOARD = ROOT / "etc" / "grafana" / "chatd.json"
RUNBOOK = ROOT / "docs" / "runbook.md"


def known() -> set[str]:
    found = set()
    for one in table.metrics():
        endings = ("_bucket", "_sum", "_count") if one.kind is Kind.HISTOGRAM else ("",)
        found |= {f"{one.shown}{ending}" for ending in endings}
    return found


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_that_is_used_exists(file: Path) -> None:
    used = set(re.findall(r"\bchatd_[a-z_]+", file.read_text()))
    assert len(used) > 10
    assert used - known() == set()


def test_the_dashboard_is_what_grafana_imports() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [one for one in dashboard["panels"] if one["type"] != "row"]
    assert len(panels) > 15
    assert len({one["id"] for one in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(one["targets"] and all(target["expr"] for target in one["targets"]) for one in panels)


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("#")
    }
    text = RULES.read_text()
    led = re.findall(r"runbook: docs/runbook\.md#(\S+)", text)
    assert len(led) == text.count("- alert:") > 15
    assert set(led) <= headings


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", str(RULES))
    promtool("check", "config", "--syntax-only", str(ROOT / "etc" / "prometheus" / "scrape.yml"))
    promtool("test", "rules", *map(str, RULE_TESTS))


def failures(compares: str, folder: Path) -> str:
    """What the tests find when the first comparison of each rule, which is the alert's, is another one."""
    text = RULES.read_text()
    rules, count = re.subn(r"(expr: .*?) (?:==|<|>) (?:time\(\)|[\d. *]*\d)", rf"\1 {compares}", text)
    assert count == len(ALERTS)
    (folder / "rules.yml").write_text(rules)
    tests = []
    for file in RULE_TESTS:
        tests.append(folder / file.name)
        tests[-1].write_text(file.read_text().replace("../../../etc/prometheus/chatd.rules.yml", "rules.yml"))
    done = subprocess.run(["promtool", "test", "rules", *tests], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stdout + done.stderr


def test_every_alert_is_tested_with_a_host_that_is_wrong_and_one_that_is_right(tmp_path: Path) -> None:
    """So a rule without a test is noticed, and so is one that can never fire or that always does."""
    assert not any("instance: good" in file.read_text() for file in RULE_TESTS)
    silent, noisy = failures("> Inf", tmp_path), failures(">= -Inf", tmp_path)
    missed = {alert for alert in ALERTS if f"alertname: {alert}, " not in silent}
    assert missed == set(), "no test notices that it never fires"
    untold = {alert for alert in ALERTS if not re.search(rf'Labels:{{alertname="{alert}"[^}}]*instance="good"', noisy)}
    assert untold == set(), "no test notices that it always fires"


def test_no_number_of_the_scoreboard_is_forgotten() -> None:
    """One that is in no table is exported under its own name; one that is left out says why."""
    assert EXPORTS.keys() <= FIELDS.keys()
    assert all(one.why for one in EXPORTS.values() if isinstance(one, LeftOut))
    names = {one.name for one in table.metrics()}
    for name in table.single_fields():
        how = table.exported(name)
        assert isinstance(how, LeftOut) or f"{table.PREFIX}{how.name}" in names


def test_names_follow_the_conventions_of_prometheus() -> None:
    for one in table.metrics():
        assert re.fullmatch(r"chatd_[a-z][a-z0-9_]*[a-z]", one.name)
        assert one.meaning
        assert not one.name.endswith(("_total", "_us", "_ms", "_info"))
    assert table.is_sum(Field("x", total=True))
    assert not table.is_sum(Field("x"))
