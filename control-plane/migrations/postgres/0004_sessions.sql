-- slot_held outlives the final state: the slot is free only when the agent has said that the
-- browser is gone, or when its lease lapsed. So there are never more browsers than capacity.
CREATE TABLE sessions (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    region TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" REFERENCES agents (id),
    status TEXT COLLATE "C" NOT NULL
        CHECK (status IN ('QUEUED', 'PROVISIONING', 'RUNNING', 'COMPLETED', 'EXPIRED', 'ERRORED')),
    reason_code TEXT COLLATE "C",
    reason_message TEXT COLLATE "C",
    timeout_seconds BIGINT NOT NULL,
    keep_alive_seconds BIGINT NOT NULL,
    viewport_width BIGINT NOT NULL,
    viewport_height BIGINT NOT NULL,
    user_agent TEXT COLLATE "C",
    labels JSONB NOT NULL,
    traceparent TEXT COLLATE "C" NOT NULL DEFAULT '',
    tried TEXT COLLATE "C" NOT NULL DEFAULT '', -- agents that failed to launch it, separated by spaces
    slot_held BIGINT NOT NULL CHECK (slot_held IN (0, 1)),
    created_us BIGINT NOT NULL,
    started_us BIGINT,
    ended_us BIGINT,
    expires_us BIGINT NOT NULL,
    last_seen_us BIGINT,
    cdp_messages BIGINT NOT NULL DEFAULT 0,
    bytes_in BIGINT NOT NULL DEFAULT 0,
    bytes_out BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX sessions_page ON sessions (workspace_id, id);
CREATE INDEX sessions_slots ON sessions (agent_id) WHERE slot_held = 1;
CREATE INDEX sessions_deadline ON sessions (expires_us)
    WHERE status IN ('QUEUED', 'PROVISIONING', 'RUNNING');
