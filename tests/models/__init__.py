"""Networks and their memories, behind one interface."""
