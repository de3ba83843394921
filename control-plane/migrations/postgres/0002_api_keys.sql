-- The secret of a key is 190 random bits: its SHA-256 is enough.
CREATE TABLE api_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    label TEXT COLLATE "C" NOT NULL,
    secret_hash BYTEA NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL, -- separated by spaces
    created_us BIGINT NOT NULL,
    revoked_us BIGINT
);

CREATE INDEX api_keys_workspace ON api_keys (workspace_id, id);
