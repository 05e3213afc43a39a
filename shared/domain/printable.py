"""Characters that no text from another party may bring onto a terminal or a page: commands, and what nobody sees.

What is unseen: marks that turn the direction of writing, spaces of no width, separators of lines and paragraphs. The
joiners U+200C and U+200D stay, which several scripts are written with.
"""

from __future__ import annotations

import re

_UNSEEN = r"\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
UNPRINTABLE = re.compile(rf"[\x00-\x08\x0b-\x1f{_UNSEEN}]")
"""In text of several lines: tabs and ends of lines stay."""
UNPRINTABLE_IN_LINE = re.compile(rf"[\x00-\x1f{_UNSEEN}]")
"""In text of one line."""
