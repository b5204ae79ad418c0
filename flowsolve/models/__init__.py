"""The small networks and the shipped models: :func:`flowsolve.models.digits.digits` and
:func:`flowsolve.models.fashion.fashion`."""
