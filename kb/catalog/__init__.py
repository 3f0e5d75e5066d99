"""The truth: one SQL database that every index can be rebuilt from."""

from kb.catalog.approvals import Approvals
from kb.catalog.attachments import Attachments
from kb.catalog.calls import Calls
from kb.catalog.database import Database
from kb.catalog.documents import Documents
from kb.catalog.feed import Feed
from kb.catalog.files import Files
from kb.catalog.holdings import Holdings
from kb.catalog.jobs import Jobs
from kb.catalog.keys import Keys
from kb.catalog.knowledge_bases import KnowledgeBases
from kb.catalog.models import Models
from kb.catalog.receipts import Receipts
from kb.catalog.responses import Responses
from kb.catalog.secrets import Secrets
from kb.catalog.steps import Steps
from kb.catalog.store import Store
from kb.catalog.usage import CallUsage
from kb.catalog.versions import Versions


class Catalog:
    """The parts of one database, opened together."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.knowledge_bases = KnowledgeBases(self.database)
        self.documents = Documents(self.database)
        self.versions = Versions(self.database)
        self.models = Models(self.database)
        self.store = Store(self.database)
        self.files = Files(self.database)
        self.attachments = Attachments(self.database, self.store)
        self.holdings = Holdings(self.database)
        self.feed = Feed(self.database)
        self.jobs = Jobs(self.database)
        self.keys = Keys(self.database)
        self.calls = Calls(self.database)
        self.usage = CallUsage(self.database)
        self.steps = Steps(self.database)
        self.approvals = Approvals(self.database)
        self.secrets = Secrets(self.database)
        self.responses = Responses(self.database)
        self.receipts = Receipts(self.database)

    def close(self) -> None:
        """Release the database."""
        self.database.close()


__all__ = ["Catalog"]
