"""Bodies and bytes that cross between coordinator and participant, every length bounded."""
