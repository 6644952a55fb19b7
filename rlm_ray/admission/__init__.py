"""One rate limit and one budget for the whole cluster.

    gateway ── AdmissionClient ═════════════════════ AdmissionServer ── AdmissionController
               one per process  TCP, `util/rpc.py`   one per cluster    decides;
               `client.py`                           `server.py`        no I/O, no clock

The rules are in `policy/account.py` (rates), `policy/fair_queue.py` (order) and `core/limits.py` (budget).
"""
