"""A jailed process for each session, in which code written by a model runs.

    actor ── SandboxHost ── zygote (exec-ed once, empty environment, no key, no Ray)
                              ├─ child           one REPL; forked, jailed, killed at its deadline
                              └─ branch          a zygote that holds ONE large context, decoded once
                                   └─ child      shares the pages of that context, sees no other

The kernel is the boundary (`jail`); RestrictedPython filters the language
(`policy`, `guards`, `modules`) so that honest mistakes get advice and escapes need two steps.
Nothing here imports ray, litellm, pydantic or numpy, and this file imports nothing at all: the
zygote pays for what it imports in every child.
"""
