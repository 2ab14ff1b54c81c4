"""What holds for every test: how hypothesis searches, and what the processes that tests start inherit."""

import os

from hypothesis import HealthCheck, settings

# A busy machine makes any deadline a lie, and "too slow" with it: what is slow is found by the time-out of each test.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Tests start some two hundred processes: where the environment forbids to cache what was compiled, each compiles anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
