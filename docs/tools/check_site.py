"""Check the links of the built site: `python docs/tools/check_site.py site`.

Links within the site lead to a page and a place that exist; links to the outside are well formed
(they are not fetched); scripts, styles and pictures come with the site, so it works offline.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src"}
"""What a browser loads without being asked."""


class Page(HTMLParser):
    """The places of a page, and where its links lead."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.places: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        known = dict(attrs)
        self.places.update(name for key in ("id", "name") if (name := known.get(key)))
        if link := known.get("src" if tag in {"script", "img", "iframe"} else "href"):
            self.links.append((tag, link))


def faults(site: Path) -> list[str]:
    """What is wrong, one sentence for each fault."""
    pages = {path.resolve(): Page(path.read_text()) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for tag, link in page.links:
            if path.name != "404.html":  # its links are made for a server's root
                found += [f"{path.name}: {fault}" for fault in _faults(path, tag, link, pages)]
    return found if pages else [f"{site} holds no page"]


def _faults(path: Path, tag: str, link: str, pages: dict[Path, Page]) -> list[str]:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        if tag in FETCHED:
            return [f"<{tag}> fetches {link}"]
        whole = parts.scheme in {"http", "https"} and "." in parts.netloc and " " not in link
        return [] if whole or parts.scheme == "mailto" else [f"{link} is no address"]
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return [f"{link} leads nowhere"]
    place = unquote(parts.fragment)
    if place and target in pages and place not in pages[target].places:
        return [f"{link} leads to a place that is not on that page"]
    return []


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    print("\n".join(wrong) or "All links of the site lead somewhere.")
    sys.exit(bool(wrong))
