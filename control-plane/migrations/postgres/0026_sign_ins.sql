-- Pairs of an access and a refresh token. All that came from one sign-in are a family; a
-- pair that was exchanged for its successor stays, so that a second use of it is noticed.
CREATE TABLE sign_ins (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    family TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    access_hash BYTEA NOT NULL,
    access_expires_us BIGINT NOT NULL,
    refresh_hash BYTEA NOT NULL,
    refresh_expires_us BIGINT NOT NULL,
    exchanged_us BIGINT,
    successor TEXT COLLATE "C"
);

CREATE INDEX sign_ins_family ON sign_ins (family);
CREATE INDEX sign_ins_expiry ON sign_ins (refresh_expires_us);
