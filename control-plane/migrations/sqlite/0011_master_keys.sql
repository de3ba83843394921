-- The master keys that wrap something, by name alone. Whatever is wrapped refers to its key,
-- so a key that is still needed cannot be forgotten, and one that is forgotten wraps nothing
-- more. NULL: wrapped before keys had names.
CREATE TABLE master_keys (
    id TEXT NOT NULL PRIMARY KEY,
    created_us INTEGER NOT NULL
) STRICT;

ALTER TABLE signing_keys ADD COLUMN key_id TEXT REFERENCES master_keys (id);
