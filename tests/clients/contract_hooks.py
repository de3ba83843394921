"""What schemathesis takes for a fault though the contract wants it so.

Every check is on for every operation. A failure is dropped only when the answer itself shows
that it rests on something that the tool cannot know, and each such case is written here.
"""

from zlib import crc32

import schemathesis
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.core.failures import AcceptedNegativeData
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
# What is refused there is refused by the contract, and the document does not say it:
REFUSED_AT = {
    # cursors carry a check of the server's own, so no invented one is good
    "?cursor",
    # a flag that cannot be set yet: generators of clients choke on booleans with one value
    "/recording/enabled",
}

# It takes DELETE for the end of a thing. But a session is released, and stays to be read.
RELEASED = {"COMPLETED", "EXPIRED", "ERRORED"}
RELEASES = "/v1/sessions/{id}"


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def fits_without_nulls(case):
    """`null` is the same as nothing, also where the document, for the sake of generated clients,
    does not list a field because it belongs to another form of the body."""
    document = case.operation.schema.raw_schema
    body = document["paths"][case.operation.path][case.operation.method]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    whole = {**schema, "components": document["components"]}
    return Draft202012Validator(whole).is_valid(without_nulls(case.body))


def json_of(response):
    try:
        return response.json()
    except ValueError:
        return {}


LABEL = st.from_regex(r"\A[a-z]([a-z0-9-]{0,9}[a-z0-9])?\Z").filter(lambda one: "--" not in one)
PORT = st.integers(1024, 65535).map(":{}".format)
ORIGIN = st.tuples(
    st.sampled_from(["http://", "https://"]),
    st.lists(LABEL, min_size=1, max_size=4).map(".".join),
    st.just("") | PORT,
)
# A format of ours: https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
schemathesis.openapi.format("origin", ORIGIN.map("".join))
SCHEME = st.sampled_from(["http://", "https://", "socks5://"])
CREDENTIALS = st.sampled_from(["", "user@", "user:word@"])
PROXY_HOST = st.tuples(SCHEME, LABEL, PORT).map("".join)
PROXY = st.tuples(SCHEME, CREDENTIALS, LABEL, PORT).map("".join)
schemathesis.openapi.format("proxy", PROXY)
schemathesis.openapi.format("proxy-host", PROXY_HOST)

HOSTS = st.sampled_from(
    ["example.com", "*.example.com", "192.0.2.7", "10.0.0.0/8", "[fd00::/8]", "[::1]"]
)
RULE_PORT = st.sampled_from(["", ":443", ":8000-8999"])
schemathesis.openapi.format("egress-rule", st.tuples(HOSTS, RULE_PORT).map("".join))


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
        return not (slug in NAMES_NOTHING or (pointers and pointers <= REFUSED_AT))
    if isinstance(failure, AcceptedNegativeData) and isinstance(case.body, dict):
        return case.body == without_nulls(case.body) or not fits_without_nulls(case)
    if isinstance(failure, UseAfterFree) and case.operation.path.startswith(RELEASES):
        answer = json_of(response)
        events = [event["status"] for event in answer.get("items", [])]
        return answer.get("status", events[-1] if events else None) not in RELEASED
    return True
