"""The server: the application, its front door, a request's walk through it, its processes."""
