"""Secrets have visible prefixes so that one rule can keep them out of logs and audit lines (clause 6.4)."""

from __future__ import annotations

import logging
import re

_SECRET = re.compile(
    r"\b(cl[cjt]_)[A-Za-z0-9_-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END|\Z)"
)


def holds_secret(text: str) -> bool:
    """Whether `text` has an invitation's secret, a token, a sign-in code or a private key in it."""
    return _SECRET.search(text) is not None


def mask(text: str) -> str:
    """`text` with every secret cut down to its prefix."""
    return _SECRET.sub(lambda found: f"{found.group(1) or 'private key '}…", text)


class SecretMask(logging.Filter):
    """Masks secrets in a record's message, arguments and traceback; put on handlers by `install_masking`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place; every record passes."""
        message = record.getMessage()
        if holds_secret(message):
            record.msg, record.args = mask(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask(record.exc_text)
        return True


def install_masking() -> None:
    """Put the mask on every handler of the root and uvicorn loggers; call it after logging is set up."""
    for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access"):
        for handler in logging.getLogger(name).handlers:
            if not any(isinstance(existing, SecretMask) for existing in handler.filters):
                handler.addFilter(SecretMask())
