"""Messages on their way to a collector: the protocol, the spool, the levels that come back."""
