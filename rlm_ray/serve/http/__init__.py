"""HTTP: routes, the shapes of requests and replies, errors. Thin; what is decided is decided in `rlm_ray.serve`."""
