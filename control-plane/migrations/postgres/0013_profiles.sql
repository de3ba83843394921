-- Cookies and storage, kept for sessions to begin with. version names the content and is new
-- with each; content is encrypted with a data key, the data key with a master key. NULL: it
-- is in the object store, as <id>/<version>.
CREATE TABLE profiles (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    name TEXT COLLATE "C" NOT NULL,
    size_bytes BIGINT NOT NULL, -- of the content in clear
    version TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL REFERENCES master_keys (id),
    wrapped_key BYTEA NOT NULL,
    content BYTEA,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);

CREATE INDEX profiles_page ON profiles (workspace_id, id);
