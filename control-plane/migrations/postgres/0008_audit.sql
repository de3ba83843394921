-- Who did what. Rows are only ever added.
CREATE TABLE audit (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    at_us BIGINT NOT NULL,
    actor_kind TEXT COLLATE "C" NOT NULL CHECK (actor_kind IN ('api_key', 'user', 'system')),
    actor_id TEXT COLLATE "C" NOT NULL,
    actor_email TEXT COLLATE "C",
    action TEXT COLLATE "C" NOT NULL,
    target_kind TEXT COLLATE "C" NOT NULL,
    target_id TEXT COLLATE "C" NOT NULL,
    detail JSONB NOT NULL,
    ip TEXT COLLATE "C",
    user_agent TEXT COLLATE "C"
);

CREATE INDEX audit_page ON audit (workspace_id, id);
