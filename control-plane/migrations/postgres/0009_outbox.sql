-- What others are to be told, written in the transaction in which it happened. Whoever tells
-- it deletes the row.
CREATE TABLE outbox (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    kind TEXT COLLATE "C" NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    payload JSONB NOT NULL,
    created_us BIGINT NOT NULL
);

CREATE INDEX outbox_age ON outbox (created_us);
