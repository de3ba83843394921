-- Cookies and storage, kept for sessions to begin with. version names the content and is new
-- with each; content is encrypted with a data key, the data key with a master key. NULL: it
-- is in the object store, as <id>/<version>.
CREATE TABLE profiles (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, -- of the content in clear
    version TEXT NOT NULL,
    key_id TEXT NOT NULL REFERENCES master_keys (id),
    wrapped_key BLOB NOT NULL,
    content BLOB,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL
) STRICT;

CREATE INDEX profiles_page ON profiles (workspace_id, id);
