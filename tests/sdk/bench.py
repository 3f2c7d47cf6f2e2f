"""What the judges have in common: the stand-in's controls, and clients that ask it."""

import json
import urllib.request

import anthropic
import openai

# One red pixel, and the least that calls itself a PDF.
PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
PDF = "JVBERi0xLjQKJSVFT0YK"
KEY = "a-key"
MODEL = "a-model"
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
LOOK = {"call": {"name": "look", "arguments": {"at": "sea"}}}
DIVE = {"call": {"name": "dive", "arguments": {"at": "grüße 🐟"}}}


class StandIn:
    """The stand-in at a URL, and clients of it that repeat nothing unless they are told to."""

    def __init__(self, url):
        self.url = url
        self.anthropic = anthropic.Anthropic(api_key=KEY, base_url=url, max_retries=0, timeout=20)
        self.openai = openai.OpenAI(api_key=KEY, base_url=url + "/v1", max_retries=0, timeout=20)

    def control(self, what, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_stand-in/{what}", data=data)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def will(self, *steps):
        """Answers so, one request after the other."""
        self.control("script", {"queue": list(steps)})

    def forget(self):
        """Forgets what is left of what it was told to answer."""
        self.control("clear", {})

    def refuses(self, status, times=1, **more):
        self.will(*[{"refuse": {"status": status, **more}}] * times)

    def requests(self):
        return self.control("requests")

    def last(self):
        return self.requests()[-1]


def says(*parts, **more):
    """A step that says these parts: a text as such, everything else as it is."""
    parts = [{"text": part} if isinstance(part, str) else part for part in parts]
    return {"say": parts, **more}


def same(found, expected, what=""):
    assert found == expected, f"{what}: {found!r}, not {expected!r}"


def raises(kind, ask):
    """What `ask` raises, which is of this very class and of none below it."""
    try:
        answer = ask()
    except Exception as error:  # noqa: BLE001: that it is another is what is told
        assert type(error) is kind, f"{type(error).__name__} ({error}), not {kind.__name__}"
        return error
    raise AssertionError(f"{answer!r}, where {kind.__name__} was to be raised")
