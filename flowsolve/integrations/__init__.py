"""Other tools' networks here, and the solvers there: one client a module, imported by who names
it."""
