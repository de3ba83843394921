-- What agents of one region join with. Made by the operator, on the server's own database; of
-- the secret, 190 random bits, only the SHA-256 is here.
CREATE TABLE join_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    region TEXT NOT NULL,
    label TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER, -- NULL: never
    revoked_us INTEGER,
    last_used_us INTEGER -- to the minute
) STRICT;
