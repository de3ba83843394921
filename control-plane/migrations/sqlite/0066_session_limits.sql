-- How many sessions a workspace may have at once; NULL: as its plan says.
ALTER TABLE workspaces ADD COLUMN session_limit INTEGER CHECK (session_limit >= 0);
