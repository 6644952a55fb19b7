"""A loop whose clock is virtual."""

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when there is nothing else to do."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        times = [timer._when for timer in self._scheduled if not timer.cancelled()]
        if not self._ready and times:
            self.now = max(self.now, min(times))
        super()._run_once()


def in_virtual_time(work):
    """Run it to its end; the time that took."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)
        return runner.get_loop().time()
