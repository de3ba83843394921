-- One row for each transition, never changed.
CREATE TABLE session_events (
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    seq BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    at_us BIGINT NOT NULL,
    reason_code TEXT COLLATE "C",
    reason_message TEXT COLLATE "C",
    PRIMARY KEY (session_id, seq)
);
