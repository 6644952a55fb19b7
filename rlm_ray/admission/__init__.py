"""One rate limit and one budget for the whole cluster.

gateway ── AdmissionClient ══ transport ══ AdmissionShell ── Admission
(asks)     (one per process)   (Ray, or     (one per cluster)  (decides; no IO,
                                a call)                         no clock)
"""
