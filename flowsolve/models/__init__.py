"""The small network and the shipped model: :func:`flowsolve.models.digits.digits`."""
