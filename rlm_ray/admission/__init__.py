"""One rate limit and one budget for the whole cluster.

    gateway ── AdmissionClient ══ Line or actor call ══ AdmissionShell ── Admission
               one per process    (a `Transport`)       one per cluster   decides;
               `client.py`        `line.py`             `shell.py`        no IO, no clock

The decisions themselves stand in `core/`: `account.py` (rates), `queue.py` (order), `ledger.py` (budget).
"""
