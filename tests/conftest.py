"""What all tests share: one thread, and examples that are the same each time."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models run slower with more

patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("steady", derandomize=True, **patient)
settings.register_profile("seeking", **patient)  # new examples each time
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
