"""Many samples: a folder filled by any number of processes, which may be killed anywhere."""

from .generating import Generated, generate
from .reading import Verified, read, verify
from .samples import Samples

__all__ = ["Generated", "Samples", "Verified", "generate", "read", "verify"]
