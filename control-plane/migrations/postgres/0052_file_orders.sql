-- What agents have to do with uploads: fetch one, or remove it. Asked for by any replica,
-- carried by the one with the agent's stream, deleted once it is done or nobody needs it any
-- more. FAILED has an error.
CREATE TABLE file_orders (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    name TEXT COLLATE "C" NOT NULL,
    size_bytes BIGINT NOT NULL,
    remove BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('ASKED', 'DONE', 'FAILED')),
    error TEXT COLLATE "C",
    created_us BIGINT NOT NULL
);

CREATE INDEX file_orders_asked ON file_orders (session_id, name);
CREATE INDEX file_orders_age ON file_orders (created_us);
