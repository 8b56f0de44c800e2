"""Load for an OpenAI-style server: streams that are timed token by token, at a rate that is given.

Knows HTTP and no model: any server that streams completions can be measured.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles
from urllib.parse import urlsplit

from foredraft.errors import ConfigError, quoted
from foredraft.files import Document, Json, reason_of

PATH = "/v1/completions"
SECONDS = 600.0  # that an answer may keep silent


@dataclass
class Answered:
    """What came of a request.

    Attributes:
        status: of the answer; 0: there was none.
        text: that was said.
        reason: why it ended; None: it did not, or it was left.
        error: what was said instead.
        first_seconds: until the first text; None: there was none.
        gaps: seconds between pieces of the text after that.
        seconds: in all.
        tokens: of the answer, by its usage.
        was_left: whether it was left on purpose.
    """

    status: int = 0
    text: str = ""
    reason: str | None = None
    error: str = ""
    first_seconds: float | None = None
    gaps: list[float] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    was_left: bool = False


def ask(url: str, body: Document, *, key: str | None = None, leave: int | None = None) -> Answered:
    """Ask for a stream and read it.

    Args:
        url: of the server's root.
        body: of the request; that it is a stream and wants its usage is added.
        key: that the server asks for.
        leave: pieces after which to leave without a word; None: read to the end.
    """
    found, start = Answered(), time.perf_counter()
    connection = connect(url)
    try:
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        connection.request(
            "POST", urlsplit(url).path.rstrip("/") + PATH, json.dumps(asked), headers
        )
        response = connection.getresponse()
        found.status = response.status
        if response.status != 200:
            found.error = response.read().decode("utf-8", "replace")
            return found
        _read(response, found, start, leave)
    except (OSError, http.client.HTTPException, ValueError) as error:
        found.error = reason_of(error) if isinstance(error, OSError) else repr(error)
    finally:
        found.seconds = time.perf_counter() - start
        connection.close()
    return found


def connect(url: str) -> http.client.HTTPConnection:
    """Return a connection to a server.

    Raises:
        ConfigError: the address is none.
    """
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ConfigError(f"url must be http://HOST:PORT, not {quoted(url)}")
    if place.scheme == "https":
        return http.client.HTTPSConnection(place.hostname, place.port, timeout=SECONDS)
    return http.client.HTTPConnection(place.hostname, place.port, timeout=SECONDS)


def _read(
    response: http.client.HTTPResponse, found: Answered, start: float, leave: int | None
) -> None:
    newest, pieces = start, 0
    for line in response:
        data = line.decode("utf-8").strip().removeprefix("data: ")
        if data == "[DONE]" or not data:
            continue
        event = json.loads(data)
        if "error" in event:
            found.error = event["error"]["message"]
            return
        if event.get("usage"):
            found.tokens = event["usage"]["completion_tokens"]
        for choice in event["choices"]:
            found.reason = choice["finish_reason"] or found.reason
            if not choice["text"]:
                continue
            found.text += choice["text"]
            now = time.perf_counter()
            if found.first_seconds is None:
                found.first_seconds = now - start
            else:
                found.gaps.append(now - newest)
            newest, pieces = now, pieces + 1
        if leave is not None and pieces >= leave:
            found.was_left = True
            return


def at_rate(
    send: Callable[[int], Answered], count: int, rate: float, seed: int = 0
) -> list[Answered]:
    """Send requests at random moments, whether those before them are answered or not.

    Args:
        send: sends one, by its number.
        count: requests.
        rate: of them, a second on average; their distances are exponential.
        seed: of the moments.
    """
    source, found = random.Random(seed), [Answered() for _ in range(count)]

    def sent(number: int) -> None:
        found[number] = send(number)

    threads = [threading.Thread(target=sent, args=(number,)) for number in range(count)]
    due = time.perf_counter()
    for thread in threads:
        time.sleep(max(0.0, due - time.perf_counter()))
        thread.start()
        due += source.expovariate(rate)
    for thread in threads:
        thread.join()
    return found


def in_turns(send: Callable[[int], Answered], count: int, clients: int) -> list[Answered]:
    """Send requests from some clients, each the next one when its last is answered."""
    found = [Answered() for _ in range(count)]
    numbers = iter(range(count))
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            found[number] = send(number)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def figures(answered: Sequence[Answered], seconds: float) -> Mapping[str, Json]:
    """Return what a load test found; times in seconds, with three percentiles of each."""
    whole = [one for one in answered if one.status == 200 and not one.error]
    tokens = sum(one.tokens for one in whole)
    return {
        "requests": len(answered),
        "failed": len(answered) - len(whole),
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds if seconds else None,
        "time_to_first_token": _percentiles(
            [one.first_seconds for one in whole if one.first_seconds is not None]
        ),
        "between_pieces": _percentiles([gap for one in whole for gap in one.gaps]),
        "seconds_per_token": _percentiles(
            [one.seconds / one.tokens for one in whole if one.tokens]
        ),
    }


def _percentiles(values: Sequence[float]) -> Json:
    if len(values) < 2:
        return None if not values else {"mean": values[0]}
    cuts = quantiles(values, n=100)
    return {"mean": fmean(values), "p50": cuts[49], "p90": cuts[89], "p99": cuts[98]}
