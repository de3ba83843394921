-- One row for each transition, never changed.
CREATE TABLE session_events (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    seq INTEGER NOT NULL,
    status TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    reason_code TEXT,
    reason_message TEXT,
    PRIMARY KEY (session_id, seq)
) STRICT;
