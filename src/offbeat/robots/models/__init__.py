"""Numbers of the arms we know: kinematics, inertias, limits."""
