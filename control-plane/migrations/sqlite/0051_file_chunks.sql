-- The contents of files that are not in the object store: 1 MiB each but for the last, then
-- encrypted one by one.
CREATE TABLE file_chunks (
    file_id TEXT NOT NULL REFERENCES session_files (id),
    seq INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (file_id, seq)
) STRICT;
