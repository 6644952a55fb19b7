"""A script: traces a run to the endpoint it is given, says how long that held it up, and ends."""

import sys
import time

from run_records import Child, Leaf, Played

from rlm_ray.tracing.exporters import flush_async, meter_provider_from_environment, provider_from_environment
from rlm_ray.tracing.setup import Metrics
from rlm_ray.tracing.tracer import Tracer

environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": sys.argv[1]}
provider, _ = provider_from_environment(environment)
meters, _ = meter_provider_from_environment(environment)
tracer, counted = Tracer(provider, "run-1"), Metrics(meters)
for record in Played().run(Child(((Leaf(),),))).records:
    tracer.add(record)
    counted.add(record)
tracer.finish()
started = time.monotonic()
flush_async(float(sys.argv[2]), provider, meters)
sys.stdout.write(f"{time.monotonic() - started}\n")
