"""The Explore page's logic and charts: a wish, where it stands, how well it reads, and what was tried before."""
