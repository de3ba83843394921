-- The secret of a key is 190 random bits: its SHA-256 is enough.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    label TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    scopes TEXT NOT NULL, -- separated by spaces
    created_us INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT;

CREATE INDEX api_keys_workspace ON api_keys (workspace_id, id);
