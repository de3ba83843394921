-- The master keys that wrap something, by name alone. Whatever is wrapped refers to its key,
-- so a key that is still needed cannot be forgotten, and one that is forgotten wraps nothing
-- more. NULL: wrapped before keys had names.
CREATE TABLE master_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_us BIGINT NOT NULL
);

ALTER TABLE signing_keys ADD COLUMN key_id TEXT COLLATE "C" REFERENCES master_keys (id);
