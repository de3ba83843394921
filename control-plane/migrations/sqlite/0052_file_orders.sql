-- What agents have to do with uploads: fetch one, or remove it. Asked for by any replica,
-- carried by the one with the agent's stream, deleted once it is done or nobody needs it any
-- more. FAILED has an error.
CREATE TABLE file_orders (
    id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    remove INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ASKED', 'DONE', 'FAILED')),
    error TEXT,
    created_us INTEGER NOT NULL
) STRICT;

CREATE INDEX file_orders_asked ON file_orders (session_id, name);
CREATE INDEX file_orders_age ON file_orders (created_us);
