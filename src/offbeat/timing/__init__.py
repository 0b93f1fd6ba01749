"""Time: what a stage costs (profile), when it runs (clock) and what every cycle really took (ledger)."""
