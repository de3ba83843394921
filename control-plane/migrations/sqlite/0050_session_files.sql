-- Files that callers put for a session (UPLOAD), and that its browser downloaded (DOWNLOAD).
-- WRITING comes into being, STORED is there, GONE is not there any more: what is left of it is
-- deleted piece by piece. A file never changes; another content of the same name is another
-- file. Encrypted with a data key of its own, that with a master key; without it, it is gone.
CREATE TABLE session_files (
    id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    kind TEXT NOT NULL CHECK (kind IN ('UPLOAD', 'DOWNLOAD')),
    name TEXT NOT NULL,
    guid TEXT, -- what the browser calls a download
    status TEXT NOT NULL CHECK (status IN ('WRITING', 'STORED', 'GONE')),
    size_bytes INTEGER NOT NULL, -- in clear; as announced while WRITING
    in_objects INTEGER NOT NULL, -- 1: in the object store, as files/<id>; 0: in file_chunks
    key_id TEXT REFERENCES master_keys (id),
    wrapped_key BLOB,
    created_us INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX session_files_name ON session_files (session_id, kind, name)
    WHERE status = 'STORED';
CREATE UNIQUE INDEX session_files_guid ON session_files (session_id, guid)
    WHERE status = 'STORED' AND guid IS NOT NULL;
CREATE INDEX session_files_page ON session_files (session_id, kind, id);
CREATE INDEX session_files_left ON session_files (status, created_us) WHERE status <> 'STORED';
