"""What schemathesis cannot know: who asks, about what, and what the contract wants otherwise.

Every check is on for every operation. A failure is dropped only when the answer itself shows
that it rests on something that the tool cannot know, and each such case is written here.
"""

import json
import os
from collections import defaultdict
from pathlib import Path
from zlib import crc32

import schemathesis
from contract_people import People
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.core import NotSet
from schemathesis.core.failures import AcceptedNegativeData, ServerError
from schemathesis.core.parameters import ParameterLocation
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
    # how much a session may still be extended depends on what it has already
    "/extend_seconds",
}

# It takes DELETE for the end of a thing. But a session is released, and stays to be read.
RELEASED = {"COMPLETED", "EXPIRED", "ERRORED"}
RELEASES = "/v1/sessions/{id}"
# So do the lists of its files and of what it was denied, which do not tell its status.
STAY = {f"{RELEASES}/{name}" for name in ("uploads", "downloads", "egress")}
# And a workspace is kept for a while, and its owner may read all that is in it.
KEEPS = "/v1/dashboard/ws/{slug}"

# How it is told that no browser could be prepared as a session wanted it.
UNSTARTED = "browsers failed to start"

# What works only on a session that is not over.
NEEDS_A_BROWSER = {"keepSessionAlive", "saveProfile", "putUpload"}

# What is about an agent, of which the server has one.
NEEDS_AN_AGENT = {"getAgent", "drainAgent", "undoDrainAgent"}
# No body at all is an empty object, and there all of it is optional.
ALL_OPTIONAL = {"keepSessionAlive", "drainAgent"}
# The end of a drain is no end of a thing.
DRAINS = "/v1/agents/{id}/drain"

people = People()
# The parameter of a path that names what an operation makes.
MAKES = {"createApiKey": "key_id", "createInvitation": "id"}
# What was made, each with the slug of its workspace.
made = defaultdict(list)
# Slugs of workspaces that were made.
slugs = []
# Which statuses each operation has answered with.
answered = defaultdict(set)


def name_of(case):
    return case.operation.definition.raw["operationId"]


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def fits_without_nulls(case):
    """`null` is the same as nothing, also where the document does not list a field because it
    belongs to another form of the body. Listed as `null` there, openapi-fetch makes it `never`
    and the form cannot be sent at all."""
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


def one_in(number, *told):
    """Whether it is the turn of this one: by what it says, so that a seed tells everything."""
    return crc32(repr(told).encode()) % number == 0


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


@schemathesis.auth(refresh_interval=None)
class Credential:
    """A key for programs' routes, a person's token for people's."""

    def get(self, case, context):
        ways = {name for way in case.operation.definition.raw.get("security", []) for name in way}
        if "api_key" in ways:
            return people.key
        if "access_token" in ways:
            return people.leaver() if name_of(case) == "signOut" else people.owner.token()
        return None

    def set(self, case, data, context):
        if data:
            case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context, case, kwargs):
    name = name_of(case)
    if case.meta and not case.meta.is_negative_at(ParameterLocation.PATH):
        linked = case.meta.phase.name.value == "stateful"
        put_in_place(name, case.path_parameters, linked)
    if case.meta and case.meta.generation.mode.is_positive:
        forget_cursor(case.query or {})
        put_token(name, case.body)
        if name in NEEDS_A_BROWSER and not one_in(3, case.path_parameters):
            case.path_parameters["id"] = people.session()
        if name in NEEDS_AN_AGENT and one_in(2, case.path_parameters, case.body):
            case.path_parameters["id"] = people.agent()
        if name == "drainAgent" and isinstance(case.body, dict):
            case.body["deadline_seconds"] = 86400  # the sessions of other cases go on
        if name in ("getUpload", "deleteUpload") and one_in(3, case.path_parameters):
            case.path_parameters.update(people.upload())


def put_in_place(name, path, linked):
    """Leads most requests to what is there, and none to what the others need. Where a link
    led stays."""
    slug = path.get("slug")
    if slug is None:
        return
    kept = one_in(8, name, path)
    other = next((one for one in ("user_id", "key_id", "id") if one in path), None)
    if other == "user_id":
        if not kept or path[other] == people.owner.id:
            path["slug"], path[other] = people.WORKSPACE, people.colleague()
    elif other:
        if not kept and not (linked and (slug, path[other]) in made[other]):
            ours = [one for where, one in made[other] if where == people.WORKSPACE]
            path["slug"], path[other] = people.WORKSPACE, (ours or [path[other]])[-1]
    elif not kept and not (slug in slugs and (linked or name.endswith("Workspace"))):
        path["slug"] = people.WORKSPACE
    if name == "deleteWorkspace" and path["slug"] == people.WORKSPACE:
        path["slug"] = slugs[-1] if slugs else "nobodys"


def forget_cursor(query):
    """Leaves out most invented cursors, so that lists also answer with a page."""
    if "cursor" in query and not one_in(8, query):
        del query["cursor"]


def put_token(name, body):
    """Gives tokens that are good now and then."""
    if name == "signIn" and one_in(4, body):
        body["token"] = people.invitation()
    if name == "refreshTokens" and isinstance(body, dict) and one_in(4, body):
        body["refresh_token"] = people.somebody().refresh


@schemathesis.hook
def after_call(context, case, response):
    name = name_of(case)
    answered[name].add(response.status_code)
    if response.status_code == 201 and name in MAKES:
        made[MAKES[name]].append((case.path_parameters["slug"], response.json()["id"]))
    elif response.status_code == 201 and name == "createWorkspace":
        slugs.append(response.json()["slug"])
    elif response.status_code == 200 and name == "drainAgent":
        people.undrain(case.path_parameters["id"])  # or no session would find a slot
    elif response.status_code == 204 and name == "removeMember":
        people.removed(case.path_parameters["user_id"])
    elif response.status_code == 204 and name == "signOut":
        people.left()
    Path(os.environ["VENTUS_ANSWERED"]).write_text(
        json.dumps({name: sorted(statuses) for name, statuses in answered.items()})
    )


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if isinstance(failure, RejectedPositiveData):
        problem = json_of(response)
        slug = problem.get("type", "").rsplit("/errors/", 1)[-1]
        pointers = {fault["pointer"] for fault in problem.get("errors", [])}
        return not (slug in NAMES_NOTHING or (pointers and pointers <= REFUSED_AT))
    if isinstance(failure, AcceptedNegativeData) and isinstance(case.body, NotSet):
        return name_of(case) not in ALL_OPTIONAL
    if isinstance(failure, AcceptedNegativeData) and isinstance(case.body, dict):
        return case.body == without_nulls(case.body) or not fits_without_nulls(case)
    if isinstance(failure, ServerError) and name_of(case) == "createSession":
        # only a browser knows whether it takes a state that is as it should be
        state = case.body.get("storage_state") or case.body.get("profile_id")
        return not (state and json_of(response).get("detail", "").startswith(UNSTARTED))
    if isinstance(failure, ServerError) and "uploads" in case.operation.path:
        # a browser may go at any moment, and its agent knows first: try again, says the document
        return not json_of(response).get("type", "").endswith("/errors/session-not-ready")
    if isinstance(failure, UseAfterFree) and case.operation.path == DRAINS:
        return False
    if isinstance(failure, UseAfterFree) and case.operation.path.startswith(RELEASES):
        answer = json_of(response)
        told = [one["status"] for one in (answer, *answer.get("items", [])) if "status" in one]
        if not told and case.operation.path in STAY:
            return case.method != "GET"
        return not told or told[-1] not in RELEASED
    if isinstance(failure, UseAfterFree) and case.operation.path.startswith(KEEPS):
        return case.method != "GET" or json_of(response).get("status", "DELETED") != "DELETED"
    return True
