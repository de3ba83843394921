-- Pairs of an access and a refresh token. All that came from one sign-in are a family; a
-- pair that was exchanged for its successor stays, so that a second use of it is noticed.
CREATE TABLE sign_ins (
    id TEXT NOT NULL PRIMARY KEY,
    family TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    access_hash BLOB NOT NULL,
    access_expires_us INTEGER NOT NULL,
    refresh_hash BLOB NOT NULL,
    refresh_expires_us INTEGER NOT NULL,
    exchanged_us INTEGER,
    successor TEXT
) STRICT;

CREATE INDEX sign_ins_family ON sign_ins (family);
CREATE INDEX sign_ins_expiry ON sign_ins (refresh_expires_us);
