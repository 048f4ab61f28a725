"""The parts of `bench.overhead`: a light client and server, the rows of the table, and what runs them."""
