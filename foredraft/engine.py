"""Engine: the one door. A loaded pair of models, and text in, text out.

Puts the parts together from a `DecodingConfig`; contains no decoding itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from foredraft.assembly import Assembly
from foredraft.config import METHODS, DecodingConfig, check_method, config_of
from foredraft.conversation import Conversation
from foredraft.core import Completion
from foredraft.decoding import Speculation, step
from foredraft.doors import checks_arguments, listed, of_type
from foredraft.errors import RequestError, foreign
from foredraft.generation import Generation
from foredraft.loading import LoadedModel, LoadOptions, drafter_for, load
from foredraft.method import Method
from foredraft.models import Network, Seq2SeqModel
from foredraft.models.refusals import check_vocabulary_holds
from foredraft.ownership import held
from foredraft.ranges import TokenId, checked
from foredraft.results import Result, beside
from foredraft.sampling.processors import GivenControls, as_controls
from foredraft.text import encode_prompt

MOST_TEXTS = 16  # that share a pass


class Engine:
    """A target, optionally a draft model, and everything to decode with them.

    Threads may share it: `generate` and `compare` keep the networks to their end while others wait;
    a `stream` keeps them for a step, so that several go on in turns.

    Args:
        target: the model whose distribution is preserved.
        drafter: the draft model; without one the methods `target` and `ngram` remain.

    Attributes:
        target: the loaded target, with its `model` and its `tokenizer`.
        drafter: the loaded draft model, or None.
    """

    target: LoadedModel
    drafter: LoadedModel | None

    def __init__(self, target: LoadedModel, drafter: LoadedModel | None = None) -> None:
        drafters = {} if drafter is None else {"drafter": drafter}
        for name, given in {"target": target, **drafters}.items():
            of_type(name, given, LoadedModel, "load models with Engine.load(…)")
        self.target, self.drafter = target, drafter
        self._assembly = Assembly(target, drafter)
        self._encoded: tuple[object, list[int]] | None = None  # the newest prompt of the template

    @classmethod
    @checks_arguments
    def load(
        cls,
        target: str = "bundled",
        drafter: str | None = "auto",
        *,
        options: LoadOptions | None = None,
        drafter_options: LoadOptions | None = None,
    ) -> Engine:
        """Load a target and a draft model.

        Args:
            target: a name on the hub, a folder, a .gguf file, `bundled` or `bundled-seq2seq`.
            drafter: likewise, or the folder of a head; `auto` is what comes with this package for
                the target, if anything does; None or `none` loads no draft model.
            options: how to load the target; None: the defaults.
            drafter_options: how to load the draft model; None: as the target.

        Raises:
            ConfigError: an option is illegal.
            ModelError: one of them cannot be loaded, or they do not fit together.
        """
        for name, given in (("options", options), ("drafter_options", drafter_options)):
            if given is not None:
                of_type(name, given, LoadOptions, "give LoadOptions(…)")
        options = options or LoadOptions()
        loaded = load(target, "target", options)
        return cls(loaded, drafter_for(drafter, loaded, drafter_options or options))

    @property
    def networks(self) -> list[Network]:
        """The target's, and the draft model's if there is one."""
        return self._assembly.networks

    def stream(
        self,
        prompt: str,
        config: DecodingConfig | None = None,
        *,
        method: str = "speculative",
        controls: GivenControls = (),
    ) -> Generation:
        """Begin a generation; nothing is computed until it is iterated.

        Args:
            prompt: text.
            config: how to decode; None: the defaults. It is one text: `n` is for `continuations`.
            method: `speculative`, `ngram`, `target` or `drafter`; what the first drafts with is
                `config.drafting`.
            controls: what changes the logits after the controls of the config: `Control` objects,
                or a `LogitsProcessorList` of transformers.

        Raises:
            RequestError: the prompt is empty or not text.
            ContextOverflow: the prompt is longer than the model's context.
            ConfigError: an unknown method, or one that needs the missing draft model.
        """
        chosen = Method.of(config_of(config).with_seed, method, as_controls(controls))
        with held(*self.networks):
            return self._generation(prompt, chosen)

    def stream_tokens(self, tokens: Sequence[int], method: Method) -> Generation:
        """Begin a generation from token ids, by a method that was read before: as `stream` does.

        Raises:
            RequestError: the model lacks one of the tokens.
            ContextOverflow: they are more than the model's context holds.
            ConfigError: the method needs the missing draft model.
        """
        of_type("method", method, Method, "give Method.of(config, name)")
        ids = [checked("tokens", t, TokenId) for t in listed("tokens", tokens, "give ids")]
        check_vocabulary_holds(ids, self.target.model.prompt_vocab_size)
        with held(*self.networks):
            return self._from_tokens(ids, method)

    def _generation(self, prompt: str, method: Method) -> Generation:
        return self._from_tokens(self.encode(prompt, chat=method.config.chat), method)

    def _from_tokens(self, tokens: list[int], method: Method) -> Generation:
        parts = self._assembly.parts(method)
        context = parts.target.open(tokens)
        return Generation.of(self.networks, self.target, method, parts, context)

    def conversation(self, system: str | None = None) -> Conversation:
        """Begin a conversation: its turns are answered as prompts are, and remember those before.

        Args:
            system: what the model is told before the first turn; None: nothing.

        Raises:
            ConfigError: the target has no chat template, or this one takes no system message.
            ModelError: the target is an encoder–decoder, which answers one prompt.
        """
        return Conversation(self._assembly, system)

    def generate(
        self,
        prompt: str,
        config: DecodingConfig | None = None,
        *,
        method: str = "speculative",
        controls: GivenControls = (),
    ) -> Completion:
        """Generate to the end; arguments and errors as for `stream`."""
        with held(*self.networks):
            return self.stream(prompt, config, method=method, controls=controls).completion

    def continuations(
        self,
        prompt: str,
        config: DecodingConfig | None = None,
        *,
        method: str = "speculative",
        controls: GivenControls = (),
    ) -> list[Completion]:
        """Generate `config.n` continuations of one prompt, which is read once, in shared passes.

        The first is the one that `generate` gives; each of the others is the one that it gives with
        the next seed. Arguments and errors as for `stream`.
        """
        config, given = config_of(config).with_seed, as_controls(controls)
        with held(*self.networks):
            first = self._generation(prompt, Method.of(config, method, given))
            others = [
                Method.of(config.with_later_seed(i), method, given) for i in range(1, config.n)
            ]
            every = [first, *(first.fork(other) for other in others)]
            ended = dict(self._ended(every))
        return [ended[index] for index in range(len(ended))]

    def generate_many(
        self,
        prompts: Sequence[str],
        config: DecodingConfig | None = None,
        *,
        method: str = "speculative",
        controls: GivenControls = (),
    ) -> list[Completion]:
        """Generate several texts to their ends; arguments and errors as for `stream_many`.

        Returns:
            The completions, in the order of the prompts.
        """
        with held(*self.networks):
            ended = dict(self.stream_many(prompts, config, method=method, controls=controls))
        return [ended[index] for index in range(len(ended))]

    def stream_many(
        self,
        prompts: Sequence[str],
        config: DecodingConfig | None = None,
        *,
        method: str = "speculative",
        controls: GivenControls = (),
    ) -> Iterator[tuple[int, Completion]]:
        """Generate several texts in shared passes; yield each as it ends.

        A text is the one that `generate` gives for its prompt, whoever shares its passes: under
        sampling as far as the drafts do not depend on what was measured meanwhile. A text that ends
        makes room for the next. Where a network takes one text a pass they go in turns.

        Args:
            prompts: texts.
            config: how to decode; each text starts from its seed, or from a fresh one of its own.
            method: as for `stream`.
            controls: as for `stream`.

        Returns:
            The index of a prompt and its completion, again and again. The time of a shared pass is
            divided among the records of its texts by the tokens they fed.

        Raises:
            Errors as for `stream`, before anything is computed.
        """
        config = config_of(config)
        prompts = listed("prompts", prompts, "give a list of texts")
        with held(*self.networks):
            given = as_controls(controls)
            every = [
                self._generation(prompt, Method.of(config.with_seed, method, given))
                for prompt in prompts
            ]
        return self._ended(every)

    def _ended(self, every: Sequence[Generation]) -> Iterator[tuple[int, Completion]]:
        """Run generations of one method together, the first of them first; yield what ends."""
        waiting, running = deque(enumerate(every)), dict[int, Generation]()
        while waiting or running:
            with held(*self.networks):
                while waiting and len(running) < MOST_TEXTS:
                    index, generation = waiting.popleft()
                    generation.begin()
                    running[index] = generation
                records = step(every[0].parts, [one.request for one in running.values()])
                for generation, record in zip(running.values(), records, strict=True):
                    generation.note(record)
            for index, one in [*running.items()]:
                if one.request.finished:
                    yield index, running.pop(index).completion

    def compare(
        self,
        prompt: str,
        config: DecodingConfig | None = None,
        methods: Sequence[str] = (),
        *,
        controls: GivenControls = (),
    ) -> list[Result]:
        """Run several methods on one prompt and compare each with Target AR, if it is among them.

        Args:
            prompt: text.
            config: how to decode; each method starts from its seed.
            methods: which; empty means those switched on in the config.
            controls: as for `stream`.

        Returns:
            A result for each method, in the order in which they ran.

        Raises:
            Errors as for `stream`.
        """
        config = config_of(config).with_seed
        for method in listed("methods", methods, f"legal names: {', '.join(METHODS)}"):
            check_method(method)
        with held(*self.networks):
            done = [
                self.generate(prompt, config, method=m, controls=controls)
                for m in methods or config.methods
            ]
            return self.results(done, prompt, config)

    def results(
        self, completions: Sequence[Completion], prompt: str, config: DecodingConfig
    ) -> list[Result]:
        """Return completions with their statistics, compared with Target AR if it is among them."""
        for completion in listed("completions", completions, "give those of `generate`"):
            of_type("completions", completion, Completion, "give those of `generate`")
        config = config_of(config)
        baseline = next((c for c in completions if c.method == "target"), None)
        with held(*self.networks):  # the comparison may use the target
            tokens = self.encode(prompt, chat=config.chat) if baseline else []
            return [beside(c, baseline, self.target, config, tokens) for c in completions]

    def speculation(self, method: str, config: DecodingConfig) -> Speculation:
        """Return the parts that a method decodes with."""
        chosen = Method.of(config_of(config), method)
        with held(*self.networks):
            return self._assembly.parts(chosen)

    def warm_up(self) -> None:
        """Run a few tokens through both models: the first passes are slow for other reasons."""
        config = DecodingConfig(length=8, seed=0)  # the global generator is not drawn from
        for method in ("target", "speculative" if self.drafter else "ngram"):
            self.generate("Once upon a time", config, method=method)

    def encode(self, prompt: str, *, chat: bool = False) -> list[int]:
        """Return the prompt's tokens.

        Raises:
            RequestError: the prompt is empty or not text, or the model lacks one of its tokens.
            ConfigError: `chat` without a chat template.
        """
        with held(*self.networks):  # a tokenizer has a memory too
            tokens = self._tokens_of(prompt, chat=checked("chat", chat, bool))
        check_vocabulary_holds(tokens, self.target.model.prompt_vocab_size)
        return tokens

    def _tokens_of(self, prompt: str, *, chat: bool) -> list[int]:
        """Return what `encode` returns, the newest prompt through the template from memory."""
        tokenizer = self.target.tokenizer
        key = (prompt, getattr(tokenizer, "chat_template", None)) if chat else None
        if key is None or self._encoded is None or self._encoded[0] != key:
            tokens = encode_prompt(
                tokenizer,
                prompt,
                chat=chat,
                end_tokens=self.target.eos_token_ids,
                keeps_end=isinstance(self.target.model, Seq2SeqModel),
            )
            self._encoded = key, tokens
        return list(self._encoded[1])

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones included.

        Raises:
            RequestError: they are no token ids, or the tokenizer fails on them.
        """
        ids = [checked("tokens", t, TokenId) for t in listed("tokens", tokens, "give ids")]
        with foreign("the tokenizer", "give ids of its vocabulary", RequestError):
            return str(self.target.tokenizer.decode(ids))
