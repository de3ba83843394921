-- Requests of each API key in the minute and the day, UTC, that its last one fell into, both
-- numbered from 1970. The server counts in memory and saves here now and then.
CREATE TABLE rate_limits (
    key_id TEXT NOT NULL PRIMARY KEY,
    minute INTEGER NOT NULL,
    in_minute INTEGER NOT NULL,
    day INTEGER NOT NULL,
    in_day INTEGER NOT NULL
) STRICT;
