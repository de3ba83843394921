-- Open invitations: one that was accepted or withdrawn is gone.
CREATE TABLE invitations (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    secret_hash BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    UNIQUE (workspace_id, email_key)
) STRICT;

CREATE INDEX invitations_expiry ON invitations (expires_us);
