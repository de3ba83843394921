"""What schemathesis takes for a fault though the contract wants it so.

Every check is on for every operation. A failure is dropped only when the answer itself shows
that it rests on something that the tool cannot know, and each such case is written here.
"""

from zlib import crc32

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

# It takes a request that fits the schema for one that must succeed. But no schema can say
# which names there are, nor which texts the server has made itself.
NAMES_NOTHING = {
    # the key of an earlier request, with another body
    "idempotency-key-reused",
    # a region or a profile that does not exist
    "unknown-region",
    "unknown-profile",
}
# Parameters that carry a check of the server's own: no invented one is good.
CHECKED = {"?cursor"}

# It takes DELETE for the end of a thing. But a session is released, and stays to be read.
RELEASED = {"COMPLETED", "EXPIRED", "ERRORED"}
RELEASES = "/v1/sessions/{id}"


def json_of(response):
    try:
        return response.json()
    except ValueError:
        return {}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Leaves out most invented cursors, so that lists also answer with a page."""
    query = case.query or {}
    positive = case.meta and case.meta.generation.mode.is_positive
    if positive and "cursor" in query and crc32(repr(query).encode()) % 8:
        del query["cursor"]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if isinstance(failure, RejectedPositiveData):
        problem = json_of(response)
        slug = problem.get("type", "").rsplit("/errors/", 1)[-1]
        pointers = {fault["pointer"] for fault in problem.get("errors", [])}
        return not (slug in NAMES_NOTHING or (pointers and pointers <= CHECKED))
    if isinstance(failure, UseAfterFree) and case.operation.path.startswith(RELEASES):
        answer = json_of(response)
        events = [event["status"] for event in answer.get("items", [])]
        return answer.get("status", events[-1] if events else None) not in RELEASED
    return True
