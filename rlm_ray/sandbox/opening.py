"""What a REPL's child is told at its start, the first time and after each loss; pure."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_ray.core.context import Context
from rlm_ray.sandbox.frames import encode
from rlm_ray.sandbox.settings import Sandbox


@dataclass(frozen=True, slots=True)
class Opening:
    """One session's context, question and limits."""

    context: Context
    query: str
    settings: Sandbox
    seed: int = 0
    landlock: bool = True
    filtered: bool = True

    def frame(self, *, with_context: bool) -> bytes:
        """The first frame; without the context where the child has it from its zygote."""
        context, settings = self.context, self.settings
        documents = context.offsets is not None
        texts = [self.query]
        if with_context and documents:
            texts += [d["text"] if isinstance(d, dict) else d for d in context.documents()]
        elif with_context:
            texts.append(context.text())
        return encode(
            "open",
            texts,
            documents=documents,
            ids=context.ids if with_context else None,
            seed=self.seed,
            output_chars=settings.output_chars,
            memory_mb=settings.memory_mb,
            cpu_s=settings.cell_cpu_s,
        )
