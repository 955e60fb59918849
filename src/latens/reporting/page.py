"""What every page of a report needs: its templates, and a policy that lets nothing else in."""

import base64
import hashlib
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


def security_policy(style: str, script: str) -> str:
    """Content security policy: nothing but this style, this script and inline pictures."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
