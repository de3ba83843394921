-- Which session a key of the last 24 hours stands for. Written with the session, in one
-- transaction: the row is the truth about whether the session was made.
CREATE TABLE idempotency (
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    key TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA NOT NULL, -- SHA-256 of the canonical request
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, key)
);

CREATE INDEX idempotency_expiry ON idempotency (expires_us);
CREATE INDEX idempotency_session ON idempotency (session_id);
