"""Who must say yes to what, and that a yes holds for nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kb.remote.approval import Approval, binding, needs_approval
from kb.remote.server import Address, RemoteServer, RemoteTool

READS = RemoteTool("search", "", {}, True, "f1")
WRITES = RemoteTool("delete", "", {}, False, "f2")


def server(*approvals: Any, url: str = "https://a.test/mcp") -> RemoteServer:
    """With these policies, as a request has them."""
    taken = tuple(TypeAdapter(Approval).validate_python(one) for one in approvals)
    return RemoteServer("a", Address(url), approvals=taken)


@pytest.mark.parametrize(
    ("approvals", "reads", "writes"),
    [
        (["always"], True, True),
        (["never"], False, False),
        ([{"never": {"read_only": True}}], False, True),
        ([{"never": {"tool_names": ["delete"]}}], True, False),
        ([{"never": {"tool_names": ["delete"], "read_only": True}}], True, True),
        ([{"always": {"tool_names": ["delete"]}}], True, True),
        ([{"always": {"tool_names": ["search"]}, "never": {"read_only": True}}], True, True),
        ([{"always": {"read_only": False}, "never": {"tool_names": ["search", "delete"]}}], False, True),
        ([{}], True, True),
        # The operator's and the caller's: either is enough.
        (["never", "always"], True, True),
        (["always", "never"], True, True),
        (["never", {"never": {"read_only": True}}], False, True),
        ([], False, False),
    ],
)
def test_which_calls_need_a_yes(approvals: list[Any], reads: bool, writes: bool) -> None:
    """always wins over never, and what neither names needs one."""
    asked = server(*approvals)
    assert (needs_approval(asked, READS), needs_approval(asked, WRITES)) == (reads, writes)


def test_a_server_nobody_spoke_about_needs_one() -> None:
    """By default."""
    assert needs_approval(RemoteServer("a", Address("https://a.test")), READS)


def test_a_yes_is_for_one_server_one_definition_and_one_set_of_arguments() -> None:
    """Any other gives another binding; the order of keys does not, nor the label."""
    asked, arguments = server("always"), {"path": "/a", "force": False}
    yes = binding(asked, WRITES, arguments)
    assert yes == binding(asked, WRITES, {"force": False, "path": "/a"})
    assert yes == "".join(yes.split())
    assert len(yes) == 64
    changed = RemoteTool("delete", "", {}, False, "f3")
    others = [
        binding(server("always", url="https://b.test/mcp"), WRITES, arguments),
        binding(asked, changed, arguments),
        binding(asked, READS, arguments),
        binding(asked, WRITES, {**arguments, "force": True}),
        binding(asked, WRITES, {**arguments, "force": 0}),
        binding(asked, WRITES, {**arguments, "force": None}),
        binding(asked, WRITES, {"path": "/a"}),
        binding(asked, WRITES, {**arguments, "path": "/a "}),
    ]
    assert len({yes, *others}) == 9


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.dictionaries(st.text(), VALUES, max_size=4))
def test_bindings_are_equal_where_the_arguments_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    """As JSON has them: 1 and true differ, also 1 and 1.0."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (binding(server(), WRITES, one) == binding(server(), WRITES, other)) == same
    assert binding(server(), WRITES, one) == binding(server(), WRITES, json.loads(json.dumps(one)))
