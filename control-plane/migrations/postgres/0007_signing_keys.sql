-- The keys of connect tokens. Private halves are encrypted with the master key.
CREATE TABLE signing_keys (
    kid TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    public_jwk TEXT COLLATE "C" NOT NULL,
    wrapped_private BYTEA NOT NULL,
    created_us BIGINT NOT NULL,
    retired_us BIGINT
);
