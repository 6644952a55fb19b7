"""`python -m rlm_ray.cli`."""

from rlm_ray.cli import main

main()
