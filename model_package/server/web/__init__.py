"""HTTP: the paths, the page, and which web pages can use them."""
