-- The contents of files that are not in the object store: 1 MiB each but for the last, then
-- encrypted one by one.
CREATE TABLE file_chunks (
    file_id TEXT COLLATE "C" NOT NULL REFERENCES session_files (id),
    seq BIGINT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (file_id, seq)
);
