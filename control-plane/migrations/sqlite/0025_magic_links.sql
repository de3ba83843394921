-- Links to sign in with. Used ones stay for an hour, to count how many were asked for.
CREATE TABLE magic_links (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    secret_hash BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    used_us INTEGER
) STRICT;

CREATE INDEX magic_links_user ON magic_links (user_id, created_us);
CREATE INDEX magic_links_age ON magic_links (created_us);
