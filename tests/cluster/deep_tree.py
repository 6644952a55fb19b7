"""The tree that the tests break parts of: a root, six child sessions, eight plain calls below each."""

from rlm_ray.testing.responses import run_query

TEXT = "some text to read. " * 500
LEAVES = run_query(
    "r = recursive_map('what?', [context[i*90:i*90+i+20] for i in range(8)])",
    "FINAL(' '.join(x.split()[-2] for x in r))",
)
TREE = run_query(
    f"r = recursive_map('''{LEAVES}''', [context[i*900:(i+1)*900] for i in range(6)])", "FINAL('|'.join(r))"
)
CALLS = 2 + 6 * (2 + 8)
ANSWER = "|".join(["46 47 48 49 50 51 52 53"] * 6)
