-- Whose administrators run the server itself: agents belong to no workspace. One at most.
ALTER TABLE workspaces ADD COLUMN operator BIGINT NOT NULL DEFAULT 0 CHECK (operator IN (0, 1));

UPDATE workspaces SET operator = 1
WHERE id = (SELECT id FROM workspaces ORDER BY created_us, id LIMIT 1);

CREATE UNIQUE INDEX workspaces_operator ON workspaces (operator) WHERE operator = 1;
