"""`python -m rlm_ray`."""

from rlm_ray.cli import main

main()
