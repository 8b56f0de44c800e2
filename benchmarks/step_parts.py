"""Where the time of a step goes: draft calls, the target's pass, the verdict, decisions, the rest.

Plain decoding, a fixed length and `auto`, greedily and with nucleus sampling, prompt by prompt in
turns. Times are means over all steps but the first of each text, in microseconds; what watches
them adds about one to each part. What takes place between steps is given by the step, too.

    uv run python benchmarks/step_parts.py [--target bundled|smollm2] [--save]
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from policies import AUTO, PLAIN, SAMPLERS, drafting, prompts_for
from tables import RESULTS, keep, markdown, parser_of

from foredraft import DecodingConfig, Engine
from foredraft.bench.machine import describe_machine, place
from foredraft.bench.prompt_sets import PromptItem
from foredraft.decoding.speculative import Speculation
from foredraft.threads import fit_threads

FIXED = {"bundled": "model", "smollm2": "suffix"}
PARTS = ("deciding", "draft calls", "target pass", "verdict", "learning", "rest of step", "between")
LONGEST = 96  # tokens of a text
NUMBER = 4  # prompts of a kind


class Stopwatch:
    """Seconds of nested parts: what happens in an inner one is none of the outer one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = list[float]()

    def of(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does what another one does, and is timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begin = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent = time.perf_counter() - begin
                self.seconds[part] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        return timed


@contextmanager
def watched(watch: Stopwatch, engine: Engine, parts: Speculation) -> Iterator[None]:
    """Watch what a method is made of, and the networks."""
    drafter, judge = parts.drafter, parts.verifier
    places: list[tuple[str, object, str]] = [
        ("target pass", engine.target.model, "forward"),
        ("verdict", type(parts.sampler), "choices"),
        ("learning", type(parts.meter), "update"),
    ]
    if drafter is not None and judge is not None:
        places += [("deciding", type(drafter), "propose"), ("verdict", type(judge), "judge")]
        places += [("learning", type(drafter), name) for name in ("observe", "update")]
        places += [("learning", type(parts.policy), "update")]
    if engine.drafter is not None:
        calls = ("forward", "draft", "draw")
        places += [("draft calls", engine.drafter.model, name) for name in calls]
    own = [vars(owner).get(name) for _, owner, name in places]
    for part, owner, name in places:
        setattr(owner, name, watch.of(part, getattr(owner, name)))
    try:
        yield
    finally:
        for (_, owner, name), before in zip(places, own, strict=True):
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


class Profile:
    """Where a method's time goes: of all steps of some texts but the first ones."""

    def __init__(self) -> None:
        self.watch, self.steps, self.tokens = Stopwatch(), 0, 0

    def add(self, engine: Engine, prompt: str, method: str, config: DecodingConfig) -> None:
        """Watch one text."""
        chunks = iter(engine.stream(prompt, config, method=method))
        next(chunks)  # reads the prompt
        watched_before = sum(self.watch.seconds.values())
        with watched(self.watch, engine, engine.speculation(method, config)):
            begin = time.perf_counter()
            records = [chunk.record for chunk in chunks]
            spent = time.perf_counter() - begin
        in_steps = sum(record.seconds for record in records)
        seen = sum(self.watch.seconds.values()) - watched_before
        self.watch.seconds["rest of step"] += in_steps - seen
        self.watch.seconds["between"] += spent - in_steps
        self.steps += len(records)
        self.tokens += sum(len(record.emitted) for record in records)

    def row(self) -> dict[str, float]:
        """Return tokens a step, and microseconds of each part of a step."""
        steps = max(self.steps, 1)
        times = {part: 1e6 * self.watch.seconds[part] / steps for part in PARTS}
        return {"tokens": self.tokens / steps} | times


def profiles(engine: Engine, target: str, prompts: Sequence[PromptItem]) -> list[dict[str, Any]]:
    """Return a row for each sampler and method."""
    spec, chat = FIXED[target], target != "bundled"
    methods = {
        PLAIN: ("target", DecodingConfig()),
        f"{spec} 4": drafting(spec, gamma=4),
        AUTO: drafting(AUTO),
    }
    rows = []
    for sampler, written in SAMPLERS.items():
        found = {name: Profile() for name in methods}
        for turn, item in enumerate([prompts[0], *prompts]):  # the first one warms up
            for name, (method, config) in methods.items():
                length = min(item.length, LONGEST)
                made = config.replace(sampler=written, seed=0, chat=chat, length=length)
                (found[name] if turn else Profile()).add(engine, item.prompt, method, made)
        rows += [{"sampler": sampler, "method": name} | one.row() for name, one in found.items()]
    return rows


def main() -> None:
    """Measure, print a table and one JSON line, and keep them on request."""
    parser = parser_of(__doc__)
    parser.add_argument("--target", choices=sorted(FIXED), default="bundled", help="[%(default)s]")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/step-parts-*")
    args = parser.parse_args()
    engine = Engine.load(args.target, "bundled" if args.target == "bundled" else None)
    fit_threads(engine.target.threads)
    prompts = prompts_for(args.target, NUMBER)
    rows = profiles(engine, args.target, prompts)
    setting = {"target": args.target, "prompts": len(prompts)}
    found = {"machine": describe_machine(), "setting": setting, "rows": rows}
    text = f"{place(found)}; {len(prompts)} prompts.\n\n{markdown(rows, '{:.1f}')}"
    print(text)
    print(json.dumps(found))
    if args.save:
        title = "# Where the time of a step goes, in microseconds\n\n"
        title += "Made by `benchmarks/step_parts.py`.\n\n"
        keep(RESULTS / f"step-parts-{args.target}.json", found, title + text)


if __name__ == "__main__":
    main()
