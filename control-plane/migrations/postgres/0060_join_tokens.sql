-- What agents of one region join with. Made by the operator, on the server's own database; of
-- the secret, 190 random bits, only the SHA-256 is here.
CREATE TABLE join_tokens (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    region TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    secret_hash BYTEA NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT, -- NULL: never
    revoked_us BIGINT,
    last_used_us BIGINT -- to the minute
);
