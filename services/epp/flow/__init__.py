"""Flow control: who waits when a pool is full, who goes next, and for how long. `queues` and `policies` are pure."""
