-- Who did what. Rows are only ever added.
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    at_us INTEGER NOT NULL,
    actor_kind TEXT NOT NULL CHECK (actor_kind IN ('api_key', 'user', 'system')),
    actor_id TEXT NOT NULL,
    actor_email TEXT,
    action TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_valid(detail)),
    ip TEXT,
    user_agent TEXT
) STRICT;

CREATE INDEX audit_page ON audit (workspace_id, id);
