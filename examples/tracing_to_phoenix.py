"""See a run as a tree of spans in Phoenix, or in any other viewer that takes OpenTelemetry.

    pip install arize-phoenix && phoenix serve                                  # http://localhost:6006
    PHOENIX_ENDPOINT=http://localhost:6006 RLM_RAY_MODEL=openai/gpt-5-mini python examples/tracing_to_phoenix.py

Without the variable a collector of this program takes the spans, and they are printed.
"""

import os
from contextlib import ExitStack
from pathlib import Path

from rlm_ray import RLM
from rlm_ray.testing.otlp_receiver import OtlpReceiver, ReceivedSpan
from rlm_ray.tracing.exporters import flush

BOOK = Path(__file__).with_name("frankenstein.txt")
SHOWN = ("gen_ai.response.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "llm.cost.total")


def show(spans: list[ReceivedSpan], parent: str = "", indent: int = 0) -> None:
    """Print the spans below one, each with what viewers show of it."""
    for span in sorted(spans, key=lambda each: each.start):
        if span.parent_id == parent:
            facts = ", ".join(
                f"{name.rpartition('.')[2]}={span.attributes[name]}"
                for name in SHOWN
                if name in span.attributes
            )
            print(f"{'   ' * indent}{span.name}  {facts}")
            show(spans, span.span_id, indent + 1)


def main() -> None:
    with ExitStack() as stack:
        collector = None
        if url := os.environ.get("PHOENIX_ENDPOINT"):
            endpoint = f"{url.rstrip('/')}/v1/traces"
        else:
            collector = stack.enter_context(OtlpReceiver())
            endpoint = f"{collector.url}/v1/traces"
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = endpoint  # as you would export it in a shell
        # Questions and replies are in the spans only where this says so:
        os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
        rlm = RLM(model=os.environ.get("RLM_RAY_MODEL", "offline/extractive"))
        result = rlm.run("What does the monster read?", BOOK)
        flush(10.0)  # spans are sent behind the run
        print(f"trace {result.trace_id} of run {result.run_id}")
        if collector is not None:
            show(list(collector.spans))


if __name__ == "__main__":
    main()
