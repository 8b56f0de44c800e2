"""The server: the same request, the same text, at any load. An extra of its own: `[server]`."""

from foredraft.server.app import Limits, application
from foredraft.server.fingerprint import fingerprint
from foredraft.server.memory import check_fits
from foredraft.server.metrics import Metrics
from foredraft.server.run import Place, listen, serve
from foredraft.server.scheduler import Scheduler
from foredraft.server.service import Service
from foredraft.server.settings import Defaults

__all__ = [
    "Defaults",
    "Limits",
    "Metrics",
    "Place",
    "Scheduler",
    "Service",
    "application",
    "check_fits",
    "fingerprint",
    "listen",
    "serve",
]
