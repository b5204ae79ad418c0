"""Many samples: a folder filled by any number of processes, which may be killed anywhere."""

from .formats import Samples
from .generating import Generated, generate
from .reading import Verified, read, verify

__all__ = ["Generated", "Samples", "Verified", "generate", "read", "verify"]
