-- A workspace is open unless it is suspended or deleted. A deleted one is purged only after
-- its grace.
ALTER TABLE workspaces ADD COLUMN plan TEXT NOT NULL DEFAULT 'enterprise'
    CHECK (plan IN ('starter', 'pro', 'enterprise'));
ALTER TABLE workspaces ADD COLUMN suspended_us INTEGER;
ALTER TABLE workspaces ADD COLUMN deleted_us INTEGER;

-- Closed workspaces are few, and so are sessions that are not over.
CREATE INDEX workspaces_closed ON workspaces (id)
    WHERE suspended_us IS NOT NULL OR deleted_us IS NOT NULL;
CREATE INDEX sessions_live ON sessions (workspace_id)
    WHERE status IN ('QUEUED', 'PROVISIONING', 'RUNNING');
