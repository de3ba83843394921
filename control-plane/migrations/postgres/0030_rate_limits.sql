-- Requests of each API key in the minute and the day, UTC, that its last one fell into, both
-- numbered from 1970. `passed` says of the last one whether it was within the limits.
-- Every request updates its key's row, so pages keep room for the next version of it.
CREATE TABLE rate_limits (
    key_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    minute BIGINT NOT NULL,
    in_minute BIGINT NOT NULL,
    day BIGINT NOT NULL,
    in_day BIGINT NOT NULL,
    passed BOOLEAN NOT NULL
) WITH (fillfactor = 50);
