"""The cases of `bench.micro`: each module yields `timing.Case`s for one part of the services."""
