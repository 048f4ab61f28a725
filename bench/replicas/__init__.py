"""Several replicas of the endpoint picker on the real stack: what they lose against one, what sharing costs, and faults."""
