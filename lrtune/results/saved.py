"""What every result can do."""

import json
from typing import Any, ClassVar

from lrtune.records import to_plain


class Saved:
    """A result that shows as plain data.

    Attributes:
        kind: What it is called in JSON.
    """

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, with the kind of the result first."""
        return {"kind": self.kind, **to_plain(self)}

    def to_json(self) -> str:
        """One JSON object that `lrtune.results.read` takes back; NaN and infinities as strings."""
        return json.dumps(self.to_dict(), allow_nan=False)
