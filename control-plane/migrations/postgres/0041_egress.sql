-- Where a session's browser may connect to, as its creator narrowed it: a JSON object with the
-- lists allow and deny; NULL: not at all. And how many connections it was refused.
ALTER TABLE sessions ADD COLUMN egress JSONB;
ALTER TABLE sessions ADD COLUMN egress_denied BIGINT NOT NULL DEFAULT 0;

-- What it was refused, each host, port and rule once; at most 100 for a session.
CREATE TABLE egress_denials (
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    host TEXT COLLATE "C" NOT NULL,
    port BIGINT NOT NULL,
    rule TEXT COLLATE "C" NOT NULL,
    times BIGINT NOT NULL,
    first_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    PRIMARY KEY (session_id, host, port, rule)
);
