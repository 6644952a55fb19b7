"""Dashboard, alerts and the collector of deploy/: queries that parse and read what is exported, alerts with a section to read.
Each check is shown a mistake that it must see."""

from __future__ import annotations

import copy
import json
import re

import pytest
from deploy_files import DEPLOY, ROOT, documents, schema_faults
from opentelemetry.exporter.prometheus import REGISTRY, PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from promql import exported_metrics, query_faults, rays_own_metrics_that_are_gone

from rlm_ray.events.metrics import INSTRUMENTS
from rlm_ray.testing.sample_run import example_run
from rlm_ray.tracing.setup import Metrics

DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
[ALERTS] = documents(DEPLOY / "prometheus-alerts.yaml")
[COLLECTOR] = documents(DEPLOY / "kubernetes/base/otel-collector.yaml")
[PROMETHEUS] = documents(DEPLOY / "prometheus.yaml")
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_reads_what_is_exported(panel):
    assert [fault for target in panel["targets"] for fault in query_faults(target["expr"])] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_reads_what_is_exported(rule):
    assert query_faults(rule["expr"]) == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("sum by (model) (rate(ray_rlm_cost_total[5m])", "parse"),
        ("rate(ray_rlm_cost_total[5 minutes])", "parse"),
        ("rate(ray_rlm_cost_total)", "type"),
        ("sum(rate(ray_rlm_cost[5m]))", "no metric ray_rlm_cost"),
        ("sum(rate(ray_rlm_session_duration_seconds_count[5m]))", "no metric"),
        ("sum(rate(rlm_session_duration_count[5m]))", "no metric"),
        ("sum by (le) (rate(ray_rlm_rate_limited_total_bucket[5m]))", "no metric"),
        ('rate(ray_rlm_cost_total{role="leaf"}[5m])', "no label role"),
        ("sum by (role) (rate(ray_rlm_cost_total[5m]))", "no label role"),
        ("max by (NodeAddress) (ray_node_mem_used)", "no label NodeAddress"),
        (
            "histogram_quantile(0.5, sum by (le, depth) (rate(rlm_queue_wait_seconds_bucket[5m])))",
            "no label depth",
        ),
    ],
)
def test_a_wrong_query_is_seen(query, fault):
    faults = query_faults(query)
    assert faults
    assert fault in {"parse", "type"} or any(fault in each for each in faults)


def test_the_names_are_those_that_were_seen_at_the_endpoints():
    assert exported_metrics().keys() >= {
        "ray_gen_ai_client_operation_duration_count",
        "ray_rlm_cost_total",
        "ray_rlm_calls_in_flight",
        "gen_ai_client_operation_duration_seconds_bucket",
        "gen_ai_client_token_usage_sum",
        "rlm_cost_total",
        "rlm_calls_in_flight",
    }
    assert rays_own_metrics_that_are_gone() == []


def test_names_and_labels_are_those_of_opentelemetrys_own_translation():
    reader = PrometheusMetricReader(disable_target_info=True)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counts = Metrics(provider)
    for record in example_run(200):
        counts.add(record)
    seen = {
        sample.name: sample.labels.keys() - {"otel_scope_name", "otel_scope_version", "otel_scope_schema_url"}
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith(("rlm_", "gen_ai_")) and not sample.name.endswith("_created")
    }
    provider.shutdown()
    known = exported_metrics()
    assert len(seen) > 15
    assert [name for name, labels in seen.items() if labels - known.get(name, set()) - {"le"}] == []
    assert seen.keys() <= known.keys()


def test_the_dashboard_shows_every_metric_of_ours():
    queries = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert [name for name in INSTRUMENTS if f"ray_{name.replace('.', '_')}" not in queries] == []


def panel_faults(dashboard):
    """What Grafana shows badly: panels over each other, ids twice, no unit, a data source of somebody else."""
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    faults = [f"id {each}" for each in set(ids) if ids.count(each) > 1]
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        if cells & taken or place["x"] + place["w"] > 24:
            faults.append(f"{panel['title']} lies over another")
        taken |= cells
        if panel["type"] == "row":
            continue
        if not panel["fieldConfig"]["defaults"].get("unit"):
            faults.append(f"{panel['title']} has no unit")
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        if any(each["uid"] != "${datasource}" for each in sources):
            faults.append(f"{panel['title']} reads another data source")
        used = re.findall(r"\$(\w+)", " ".join(target["expr"] for target in panel["targets"]))
        known = {"__rate_interval"} | {each["name"] for each in dashboard["templating"]["list"]}
        faults += [f"{panel['title']}: ${name}" for name in used if name not in known]
    return faults


def test_the_dashboard_is_one_grafana_shows_as_meant():
    assert panel_faults(DASHBOARD) == []


@pytest.mark.parametrize(
    "mistake",
    [
        lambda panel: panel.update(id=1),
        lambda panel: panel["gridPos"].update(x=20),
        lambda panel: panel["gridPos"].update(y=0),
        lambda panel: panel["fieldConfig"]["defaults"].pop("unit"),
        lambda panel: panel["targets"][0]["datasource"].update(uid="abc"),
        lambda panel: panel["targets"][0].update(expr='up{job="$cluster"}'),
    ],
)
def test_a_panel_that_is_not_shown_as_meant_is_seen(mistake):
    dashboard = copy.deepcopy(DASHBOARD)
    mistake(dashboard["panels"][2])
    assert panel_faults(dashboard)


def slug(heading):
    """The anchor of a heading, as sites of Markdown make it."""
    return re.sub(r"[^\w-]", "", heading.strip().lower().replace(" ", "-"))


def rule_faults(rules):
    """What keeps whoever is woken from knowing what to do."""
    names = [rule["alert"] for rule in rules]
    faults = [f"{name} twice" for name in names if names.count(name) > 1]
    for rule in rules:
        notes = rule["annotations"]
        if rule["labels"].get("severity") not in {"critical", "warning"}:
            faults.append(f"{rule['alert']}: severity")
        if not notes.get("summary") or not notes.get("description"):
            faults.append(f"{rule['alert']}: says nothing")
        page, _, anchor = (
            notes["runbook_url"].removeprefix("https://docs.example.org/rlm-ray/").partition(".html#")
        )
        path = ROOT / "docs" / f"{page}.md"
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if path.is_file() else []
        if anchor not in map(slug, headings):
            faults.append(f"{rule['alert']}: no section at {notes['runbook_url']}")
        told = query_labels(rule["expr"])
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(notes.values())))
        faults += [f"{rule['alert']}: {label} is summed away" for label in used - told]
    return faults


def query_labels(query):
    """Labels that the result of a query has: those it is grouped by, or those of the target itself."""
    grouped = re.findall(r"by \(([^)]*)\)", query)
    return (
        {label.strip() for group in grouped for label in group.split(",")} if grouped else {"instance", "job"}
    )


def test_every_alert_says_what_it_means_and_has_a_section_to_read():
    assert rule_faults(RULES) == []


@pytest.mark.parametrize(
    "mistake",
    [
        lambda rule: rule.update(alert="RlmRayNoReplica"),
        lambda rule: rule["labels"].update(severity="bad"),
        lambda rule: rule["annotations"].pop("summary"),
        lambda rule: rule["annotations"].update(summary="{{ $labels.role }} fails"),
        lambda rule: rule["annotations"].update(
            runbook_url="https://docs.example.org/rlm-ray/alerts.html#nothing"
        ),
        lambda rule: rule["annotations"].update(
            runbook_url="https://docs.example.org/rlm-ray/gone.html#rlmrayspend"
        ),
    ],
)
def test_an_alert_that_helps_nobody_is_seen(mistake):
    rules = copy.deepcopy(RULES)
    mistake(rules[-1])
    assert rule_faults(rules)


def test_a_prometheus_rule_of_the_alerts_is_one_the_operator_takes():
    assert (
        schema_faults({"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "spec": ALERTS})
        == []
    )
    wrong = copy.deepcopy(ALERTS)
    wrong["groups"][0]["rules"][0]["for"] = "five minutes"
    assert schema_faults({"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "spec": wrong})


def collector_faults(config):
    """Parts of the collector that no pipeline uses or that a pipeline misses; what it must take and give."""
    faults = []
    pipelines = config["service"]["pipelines"]
    for part in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline[part]}
        faults += [f"{part}: {name}" for name in used ^ config[part].keys()]
    faults += [
        f"extension {name}" for name in set(config["service"]["extensions"]) ^ config["extensions"].keys()
    ]
    for signal in ("traces", "metrics"):
        if pipelines.get(signal, {}).get("receivers") != ["otlp"]:
            faults.append(f"{signal} are not taken")
        elif pipelines[signal]["processors"][0] != "memory_limiter":
            faults.append(f"{signal}: memory_limiter comes first")
    if not config["receivers"]["otlp"]["protocols"].get("http", {}).get("endpoint", "").endswith(":4318"):
        faults.append("we speak OTLP over HTTP")
    if not config["exporters"].get("prometheus", {}).get("endpoint", "").endswith(":9464"):
        faults.append("metrics wait at 9464")
    return faults


def test_the_collector_takes_what_we_send_and_uses_what_it_configures():
    assert collector_faults(COLLECTOR) == []


@pytest.mark.parametrize(
    "mistake",
    [
        lambda config: config["service"]["pipelines"]["traces"]["exporters"].append("debug"),
        lambda config: config["service"]["pipelines"]["metrics"]["processors"].reverse(),
        lambda config: config["service"]["pipelines"].pop("traces"),
        lambda config: config["receivers"]["otlp"]["protocols"].update(http={"endpoint": "0.0.0.0:4317"}),
        lambda config: config["exporters"]["prometheus"].update(endpoint="0.0.0.0:8889"),
        lambda config: config["extensions"].pop("health_check"),
    ],
)
def test_a_mistake_in_the_collector_is_seen(mistake):
    config = copy.deepcopy(COLLECTOR)
    mistake(config)
    assert collector_faults(config)


def test_the_jobs_of_prometheus_are_those_of_the_alerts():
    jobs = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    asked = {job for rule in RULES for job in re.findall(r'job="([^"]+)"', rule["expr"])}
    assert asked <= jobs
    assert PROMETHEUS["rule_files"] == ["prometheus-alerts.yaml"]
    monitors = documents(DEPLOY / "kubernetes/monitoring/podmonitors.yaml")
    assert {each["spec"]["selector"]["matchLabels"]["app"] for each in monitors} == jobs
    assert {each["spec"]["jobLabel"] for each in monitors} == {"app"}
