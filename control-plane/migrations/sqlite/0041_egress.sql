-- Where a session's browser may connect to, as its creator narrowed it: a JSON object with the
-- lists allow and deny; NULL: not at all. And how many connections it was refused.
ALTER TABLE sessions ADD COLUMN egress TEXT;
ALTER TABLE sessions ADD COLUMN egress_denied INTEGER NOT NULL DEFAULT 0;

-- What it was refused, each host, port and rule once; at most 100 for a session.
CREATE TABLE egress_denials (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    rule TEXT NOT NULL,
    times INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    PRIMARY KEY (session_id, host, port, rule)
) STRICT;
