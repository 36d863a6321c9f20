"""One contract of a layer pass, and the engines behind it."""
