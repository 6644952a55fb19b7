"""OpenTelemetry spans and metrics of a run, made from its records in the driver's process.

    found = provider_from_environment()  # None: nobody asks for spans
    if found is not None:
        provider, ours = found
        tracer = Tracer(provider, run_id, options=settings.tracing, parent=parent_context(traceparent))
        ...                              # tracer.add(record) for each, in any order; tracer.trace_id
        tracer.finish()
        if ours:
            flush_behind(settings.tracing.flush_timeout_s, provider)

Import from its modules: `tracer`, `export`, `flush`, `metrics`, `parent`, `conventions`. They take 0.2 s to import, so a
process that traces nothing should not.
"""
