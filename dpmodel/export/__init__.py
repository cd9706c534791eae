"""Models as programs that run without dpmodel: writing, testing and using them."""
