"""Reads metrics from standard input as Prometheus' own client library does, and judges names.

Prints a line of JSON for each family: its name, kind, labels and how many samples it has.
"""

import json
import re
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

UNITS = ("_seconds", "_bytes")
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}|[0-9a-f]{8}-[0-9a-f]{4}", re.IGNORECASE)
COMPUTED = {"le"}

faults = []
all_bounds = set()
# It is strict: one wrong line, and there is no family at all.
for family in text_string_to_metric_families(sys.stdin.read()):
    # The parser takes the end off the names of counters.
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = set()
    for sample in family.samples:
        labels.update(set(sample.labels) - COMPUTED)
        faults += [f"{name}: {value} looks like an id" for value in sample.labels.values() if ID.search(value)]
        faults += [f"{name}: {value} is no template" for value in sample.labels.values() if "?" in value]
        if sample.value < 0:
            faults.append(f"{name} is {sample.value}")
    if not family.documentation:
        faults.append(f"{name} has no help")
    if family.type not in ("counter", "gauge", "histogram"):
        faults.append(f"{name} is of type {family.type}")
    if family.name.endswith(UNITS) != bool(family.unit):
        faults.append(f"{name} says {family.unit!r} for its unit")
    if family.type == "histogram" and not family.unit:
        faults.append(f"{name} has no unit")
    if family.type != "counter" and name.endswith("_total"):
        faults.append(f"{name} is no counter")
    if re.search(r"(_ms|_us|_kb|_mb|_milliseconds|_count|_sum|_bucket)$", name):
        faults.append(f"{name} is not in base units, or taken by histograms")
    if family.type == "histogram":
        series = {}
        for sample in family.samples:
            key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            series.setdefault(key, {}).setdefault(sample.name.removeprefix(family.name), []).append(sample)
        for key, kinds in series.items():
            buckets = [sample.value for sample in kinds["_bucket"]]
            if buckets != sorted(buckets) or buckets[-1] != kinds["_count"][0].value:
                faults.append(f"{name}{key}: buckets are not cumulative")
            bounds = tuple(sample.labels["le"] for sample in kinds["_bucket"])
            if bounds[-1] != "+Inf":
                faults.append(f"{name}{key}: no last bucket")
            all_bounds.add(bounds)
    print(json.dumps({"name": name, "kind": family.type, "labels": sorted(labels), "samples": len(family.samples)}))

if len(all_bounds) > 1:
    faults.append(f"histograms have different buckets: {all_bounds}")
sys.exit("\n".join(faults) or 0)
