"""Jobs: plain generators of frozen events; numpy at the edge, torch inside; no Qt."""
