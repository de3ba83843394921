"""Drives a server with the client that openapi-python-client made of its document.

    client.py BASE_URL        (VENTUS_API_KEY holds the key)
"""

import os
import sys
import uuid

from ventus_client import AuthenticatedClient, Client
from ventus_client.api.sessions import (
    change_session,
    create_session,
    get_session,
    list_session_events,
    list_sessions,
    release_session,
)
from ventus_client.models import (
    CreateSession,
    LabelSession,
    LabelSessionLabels,
    ListSessionsLabel,
    Problem,
    ReasonCode,
    Status,
    Viewport,
)
from ventus_client.models.create_session_labels_type_0 import CreateSessionLabelsType0

base_url, key = sys.argv[1], os.environ["VENTUS_API_KEY"]
team = uuid.uuid4().hex

with AuthenticatedClient(base_url=base_url, token=key, timeout=60) as client:
    wanted = CreateSession(
        timeout_seconds=60,
        viewport=Viewport(width=800, height=600),
        labels=CreateSessionLabelsType0.from_dict({"team": team}),
    )
    again = {"idempotency_key": uuid.uuid4().hex, "prefer": "wait=30"}
    created = create_session.sync_detailed(client=client, body=wanted, **again)
    assert created.status_code == 201, created
    session = created.parsed
    assert session.status == Status.RUNNING and session.connect_url.startswith("ws")
    assert session.viewport.width == 800 and session.labels["team"] == team
    assert session.expires_at > session.created_at
    replayed = create_session.sync_detailed(client=client, body=wanted, **again)
    assert replayed.status_code == 200 and replayed.parsed.id == session.id

    labelled = ListSessionsLabel.from_dict({"label.team": team})
    page = list_sessions.sync(client=client, label=labelled, status=[Status.RUNNING], limit=1)
    assert [item.id for item in page.items] == [session.id] and not page.has_more
    labels = LabelSession(labels=LabelSessionLabels.from_dict({"team": "other"}))
    assert change_session.sync(session.id, client=client, body=labels).labels["team"] == "other"
    assert get_session.sync(session.id, client=client).labels["team"] == "other"

    assert release_session.sync_detailed(session.id, client=client).status_code == 204
    over = get_session.sync(session.id, client=client)
    assert over.status == Status.COMPLETED and over.connect_url is None
    assert over.status_reason.code == ReasonCode.RELEASED
    events = list_session_events.sync(session.id, client=client).items
    assert [event.status for event in events][-1] == Status.COMPLETED

    missing = get_session.sync("0" * 26, client=client)
    assert isinstance(missing, Problem) and missing.status == 404
    invalid = create_session.sync(client=client, body=CreateSession(timeout_seconds=1), **again)
    assert isinstance(invalid, Problem) and invalid.errors[0].pointer == "/timeout_seconds"

with Client(base_url=base_url) as stranger:
    refused = list_sessions.sync_detailed(client=stranger)
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
