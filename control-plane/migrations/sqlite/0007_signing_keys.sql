-- The keys of connect tokens. Private halves are encrypted with the master key.
CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    public_jwk TEXT NOT NULL,
    wrapped_private BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    retired_us INTEGER
) STRICT;
