-- Readings of a browser's storage state: asked for by any replica, carried by the one with
-- the agent's stream, deleted by whoever asked. ASKED has neither error nor content, DONE has
-- content, FAILED an error.
CREATE TABLE captures (
    id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    agent_id TEXT NOT NULL REFERENCES agents (id),
    status TEXT NOT NULL CHECK (status IN ('ASKED', 'DONE', 'FAILED')),
    error TEXT,
    key_id TEXT REFERENCES master_keys (id),
    wrapped_key BLOB,
    content BLOB,
    created_us INTEGER NOT NULL
) STRICT;

CREATE INDEX captures_asked ON captures (agent_id) WHERE status = 'ASKED';
CREATE INDEX captures_age ON captures (created_us);
