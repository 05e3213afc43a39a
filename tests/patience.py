"""How long a test waits for what it knows will come: it goes on as soon as it is there, so patience costs nothing.

Whether something comes at all is asked here, never how soon.
"""

PATIENCE_S = 240.0
