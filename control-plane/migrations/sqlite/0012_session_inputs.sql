-- What a launch needs and no one else may see: proxy credentials and storage state. Written
-- with the session, gone as soon as it runs or ends. content is encrypted with a data key,
-- the data key with a master key.
CREATE TABLE session_inputs (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    key_id TEXT NOT NULL REFERENCES master_keys (id),
    wrapped_key BLOB NOT NULL,
    content BLOB NOT NULL
) STRICT;
