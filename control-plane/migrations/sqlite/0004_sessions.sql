-- slot_held outlives the final state: the slot is free only when the agent has said that the
-- browser is gone, or when its lease lapsed. So there are never more browsers than capacity.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    region TEXT NOT NULL,
    agent_id TEXT REFERENCES agents (id),
    status TEXT NOT NULL
        CHECK (status IN ('QUEUED', 'PROVISIONING', 'RUNNING', 'COMPLETED', 'EXPIRED', 'ERRORED')),
    reason_code TEXT,
    reason_message TEXT,
    timeout_seconds INTEGER NOT NULL,
    keep_alive_seconds INTEGER NOT NULL,
    viewport_width INTEGER NOT NULL,
    viewport_height INTEGER NOT NULL,
    user_agent TEXT,
    labels TEXT NOT NULL CHECK (json_valid(labels)),
    traceparent TEXT NOT NULL DEFAULT '',
    tried TEXT NOT NULL DEFAULT '', -- agents that failed to launch it, separated by spaces
    slot_held INTEGER NOT NULL CHECK (slot_held IN (0, 1)),
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    ended_us INTEGER,
    expires_us INTEGER NOT NULL,
    last_seen_us INTEGER,
    cdp_messages INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX sessions_page ON sessions (workspace_id, id);
CREATE INDEX sessions_slots ON sessions (agent_id) WHERE slot_held = 1;
CREATE INDEX sessions_deadline ON sessions (expires_us)
    WHERE status IN ('QUEUED', 'PROVISIONING', 'RUNNING');
