"""What a request costs at each server, in seconds: the formula, and the speeds that it is fed with."""
