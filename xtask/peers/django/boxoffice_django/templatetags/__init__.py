"""Template filters of the peer site."""
