-- What others are to be told, written in the transaction in which it happened. Whoever tells
-- it deletes the row.
CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    payload TEXT NOT NULL CHECK (json_valid(payload)),
    created_us INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_age ON outbox (created_us);
