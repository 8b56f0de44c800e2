"""Steps as data, numbers from them, and their looks."""

from foredraft.tracing.render import print_step, step_text, summary_text, undrafted
from foredraft.tracing.summary import Summary, summarize

__all__ = ["Summary", "print_step", "step_text", "summarize", "summary_text", "undrafted"]
