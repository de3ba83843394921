-- Links to sign in with. Used ones stay for an hour, to count how many were asked for.
CREATE TABLE magic_links (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    secret_hash BYTEA NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    used_us BIGINT
);

CREATE INDEX magic_links_user ON magic_links (user_id, created_us);
CREATE INDEX magic_links_age ON magic_links (created_us);
