"""The server: in process, over a real socket, and from outside."""
