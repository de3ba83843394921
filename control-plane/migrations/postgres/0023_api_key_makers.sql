-- Whose role bounds what a key allows. NULL: the server made it.
ALTER TABLE api_keys ADD COLUMN created_by TEXT COLLATE "C" REFERENCES users (id);

CREATE INDEX api_keys_revoked ON api_keys (revoked_us) WHERE revoked_us IS NOT NULL;
