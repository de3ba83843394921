-- Readings of a browser's storage state: asked for by any replica, carried by the one with
-- the agent's stream, deleted by whoever asked. ASKED has neither error nor content, DONE has
-- content, FAILED an error.
CREATE TABLE captures (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    agent_id TEXT COLLATE "C" NOT NULL REFERENCES agents (id),
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('ASKED', 'DONE', 'FAILED')),
    error TEXT COLLATE "C",
    key_id TEXT COLLATE "C" REFERENCES master_keys (id),
    wrapped_key BYTEA,
    content BYTEA,
    created_us BIGINT NOT NULL
);

CREATE INDEX captures_asked ON captures (agent_id) WHERE status = 'ASKED';
CREATE INDEX captures_age ON captures (created_us);
