"""The tools that a model is given: defined once, served over HTTP, MCP, the command line and in-process."""

from kb.tools.offer import Offer, offered
from kb.tools.registry import TOOLS, Tool, call, tool

__all__ = ["TOOLS", "Offer", "Tool", "call", "offered", "tool"]
