"""The shell, as whole transcripts: what is typed, and everything that is printed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from io import StringIO

import pytest

from foredraft.cli.commands import COMMANDS
from foredraft.config import DecodingConfig
from foredraft.models import Feed, Output
from tests.cli.transcript import Terminal, converse, open_shell, printed, without_clock
from tests.toy_engine import PROMPT, RETOLD, SINGER, STORY, song, toy_engine, toy_target

GREEDY = f"""\
> {SINGER}

== Speculative ==
{song(35)}
acceptance rate 100.0% · # tokens/s · 4.38 tokens/step · mean gamma 3.86

== Ngram Assisted ==
{song(35)}
acceptance rate 100.0% · # tokens/s · 3.18 tokens/step · mean gamma 4.00

== Target AR ==
{song(35)}
# tokens/s

ratio to Target AR: Speculative #x · Ngram Assisted #x · Target AR #x
"""


def test_a_prompt_runs_the_usual_three_in_order_under_their_headings() -> None:
    assert converse(SINGER) == GREEDY


DOCUMENTED = f"""\
> /egag
egag: on
> /egag_gamma_min 1
egag_gamma_min: 1
> /egag_gamma_max 6
egag_gamma_max: 6
> /egag_ema 0.9
egag_ema: 0.9
> /debug
debug: on
> /processor nucleus 0.8 0.9
processor: nucleus(temperature=0.8, top_p=0.9)
> /length 60
length: 60
> {RETOLD}

== Speculative ==
step  1  target: ' there'  [0/0 kept, stopped: first_target]
step  2  accepted: ' was one little' rejected: ' sea and' recovered: ' fox'  \
[3/5 kept, H_norm 0.034, raw gamma 5.79, stopped: policy]
step  3  accepted: ' who lived by the sea' bonus: ' and'  \
[5/5 kept, H_norm 0.034, raw gamma 5.79, stopped: policy]
step  4  accepted: ' loved his garden.<|eos|>'  \
[5/5 kept, H_norm 0.034, raw gamma 5.79, stopped: policy]
{STORY}
acceptance rate 86.7% · # tokens/s · 4.00 tokens/step · mean gamma 5.00 · mean H_norm 0.034

== Ngram Assisted ==
step  1  target: ' there'  [0/0 kept, stopped: first_target]
step  2  accepted: ' was one little fox' bonus: ' who'  [4/4 kept, stopped: gamma]
step  3  accepted: ' lived by the sea' bonus: ' and'  [4/4 kept, stopped: gamma]
step  4  accepted: ' loved his garden.' bonus: '<|eos|>'  [4/4 kept, stopped: gamma]
{STORY}
acceptance rate 100.0% · # tokens/s · 4.00 tokens/step · mean gamma 4.00

== Target AR ==
step  1  target: ' there'  [0/0 kept]
step  2  target: ' was'  [0/0 kept]
step  3  target: ' one'  [0/0 kept]
step  4  target: ' little'  [0/0 kept]
step  5  target: ' fox'  [0/0 kept]
step  6  target: ' who'  [0/0 kept]
step  7  target: ' lived'  [0/0 kept]
step  8  target: ' by'  [0/0 kept]
step  9  target: ' the'  [0/0 kept]
step  10  target: ' sea'  [0/0 kept]
step  11  target: ' and'  [0/0 kept]
step  12  target: ' loved'  [0/0 kept]
step  13  target: ' his'  [0/0 kept]
step  14  target: ' garden'  [0/0 kept]
step  15  target: '.'  [0/0 kept]
step  16  target: '<|eos|>'  [0/0 kept]
{STORY}
# tokens/s

ratio to Target AR: Speculative #x · Ngram Assisted #x · Target AR #x
> /nonsense
error: unknown command '/nonsense'; /help lists all commands
> /gamma -3
error: gamma must lie in [1, 1024], not -3
> /help
/speculative [on|off]  on  run Speculative
/target [on|off]  on  run Target AR
/drafter [on|off]  off  run Drafter AR
/ngram [on|off]  on  run Ngram Assisted
/egag [on|off]  on  entropy-adaptive gamma in place of
                                           the policy
/egag_gamma_min <v>  1  EGAG: lower bound, in tokens
/egag_gamma_max <v>  6  EGAG: upper bound; none means gamma
/egag_ema <v>  0.9  EGAG: smoothing of its average; 0 is
                                           none
/length <v>  60  most tokens to generate
/gamma <v>  4  draft length, in tokens
/processor <name> <values>  nucleus(temperature=0.8, top_p=0.9)
                                           sampler: greedy t · multinomial t ·
                                           topk t k · nucleus t p · topknucleus
                                           t k p
/debug [on|off]  on  show every step
/cache [on|off]  on  KV cache
/chat [on|off]  off  send prompts through the chat
                                           template
/top_k_filler <v>  3  target tokens that Ngram Assisted
                                           counts at each position
/stop_if_unknown [on|off]  on  Ngram Assisted ends a draft at an
                                           unknown context instead of guessing
/set_ngramstorage <name> <n>  basic 3  n-gram storage: basic (multi-level)
                                           or onelevel, and n
/reset_in_between [on|off]  on  Ngram Assisted forgets between
                                           prompts
/seed <v>  42  seed of every random decision; each
                                           method starts from it anew; none: a
                                           fresh one
/repetition_penalty <v>  1.0  divides the logits of tokens that
                                           prompt or output hold; 1 is none
/presence_penalty <v>  0.0  taken from logits of tokens that the
                                           output holds
/frequency_penalty <v>  0.0  the same, for each time they came
/logit_bias [text]  none  added to a token's logit, e.g.
                                           42=-5.5: id=bias; without one: none
/bad_words [text]  none  texts that must not come, spelt by
                                           their tokens; without one: none
/stop [text]  none  strings that end the text; without
                                           one: none
/no_repeat_ngram_size <v>  0  no n-gram of so many tokens comes
                                           twice; 0 is off
/min_new_tokens <v>  0  tokens before which no end token
                                           comes
/json_schema [file]  none  JSON schema that the text obeys;
                                           without one: none
/grammar [file]  none  Lark grammar that the text obeys;
                                           without one: none
/prediction [file]  none  text that the output will resemble,
                                           drafted from first; without one: none
/regex [pattern]  none  regular expression that the whole
                                           text matches; without one: none
/logprobs <v>  none  log-probabilities of each token and
                                           of so many likeliest ones
/n <v>  1  continuations of the prompt, each
                                           from a seed of its own
/verifier <spec>  rejection  accept/reject rule: rejection, block,
                                           exact_match or coupled
/policy <spec>  fixed  spec string of the gamma policy of
                                           Speculative and Ngram Assisted
/drafting <spec>  model  what Speculative drafts with: model,
                                           prompt_lookup, suffix, ngram,
                                           hybrid(suffix, model), bandit(...) or
                                           auto, which chooses lengths too
/system [text]  none  what the conversation begins with;
                                           without text: nothing
/undo  take the newest turn of the
                                           conversation back
/reset  take all turns back; the system
                                           message stays
/stats  every statistic of the last prompt
/compare <prompt>  run all four methods and show every
                                           statistic
/save <file>  write settings and last results as
                                           JSON lines
/overwrite <file>  the same, over a file that is there
/model <role> <name>  toy-target, toy-drafter
                                           load another target or drafter; no
                                           drafter: none
/clear  clear the screen
/help  this list
/quit  leave
A line that does not begin with / is a prompt, or a turn of the conversation; so
is one that begins with //, or with a space. A pasted block is one prompt,
unless its first line is a command: then each line of it is run.
> /quit
"""


def test_the_documented_session() -> None:
    typed = [line[2:] for line in DOCUMENTED.split("\n") if line.startswith("> ")]
    assert converse(*typed, "never read") == DOCUMENTED


def test_help_aligns_its_columns_and_fits_a_terminal() -> None:
    shell = open_shell()
    shell.run(["/help"], echo=False)
    lines = printed(shell).splitlines()
    assert max(map(len, lines)) <= 80

    assert len([line for line in lines if line.startswith("/")]) == len(COMMANDS)
    assert len({line.index(line.split()[0]) for line in lines if line.startswith(" ")}) == 1


TOGGLED = """\
> /speculative
speculative: off
> /speculative
speculative: on
> /cache off
cache: off
> /cache off
cache: off
> /drafter on
drafter: on
"""


def test_a_toggle_toggles_or_takes_on_and_off() -> None:
    typed = ("/speculative", "/speculative", "/cache off", "/cache off", "/drafter on")
    assert converse(*typed) == TOGGLED


TARGET_ALONE = f"""\
> {PROMPT}

== Target AR ==
{STORY}
# tokens/s
"""


def test_empty_lines_are_skipped_and_spaces_around_a_line_do_not_count() -> None:
    config = DecodingConfig(speculative=False, ngram=False)
    assert converse("", "   ", f"  {PROMPT}\t", config=config) == TARGET_ALONE


SWITCHED_OFF = f"""\
> /speculative
speculative: off
> /ngram
ngram: off
> /target
target: off
> {PROMPT}
error: every method is switched off; switch one on, e.g. /speculative
> /drafter
drafter: on
> {SINGER}

== Drafter AR ==
{song(35)}
# tokens/s
"""


def test_with_nothing_switched_on_a_prompt_is_refused_and_the_shell_goes_on() -> None:
    lines = ("/speculative", "/ngram", "/target", PROMPT, "/drafter", SINGER)
    assert converse(*lines) == SWITCHED_OFF


INTERRUPTED = f"""\
> {SINGER}

== Target AR ==
{song(2)}
[interrupted]
> /stats
error: nothing has been generated yet; type a prompt first
{TARGET_ALONE}"""


def test_an_interrupt_ends_the_generation_and_not_the_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, calls = toy_target(), itertools.count(1)
    forward = target.forward

    def interrupted(feeds: Sequence[Feed]) -> list[Output]:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(feeds)

    monkeypatch.setattr(target, "forward", interrupted)
    config = DecodingConfig(speculative=False, ngram=False)
    lines = (SINGER, "/stats", PROMPT)
    assert converse(*lines, engine=toy_engine(target), config=config) == INTERRUPTED


def test_colours_change_the_looks_and_not_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    lines = ("/debug", RETOLD, "/nonsense")
    texts = []
    for stream in (StringIO(), Terminal()):
        shell = open_shell(stream=stream)
        shell.run(lines, echo=True)
        texts.append(printed(shell))
    plain, coloured = texts
    assert "\x1b" not in plain
    assert "\x1b[32m' was one little'\x1b[0m" in coloured  # accepted is green
    assert without_clock(re.sub(r"\x1b\[[\d;]*m", "", coloured)) == without_clock(plain)
