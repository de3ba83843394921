-- What a session begins with beside its first fields. The proxy is without its credentials:
-- those, and the storage state, are a row of session_inputs while has_inputs is 1.
ALTER TABLE sessions ADD COLUMN proxy_url TEXT;
ALTER TABLE sessions ADD COLUMN profile_id TEXT;
ALTER TABLE sessions ADD COLUMN has_inputs INTEGER NOT NULL DEFAULT 0 CHECK (has_inputs IN (0, 1));
-- How often its keep-alive was restarted.
ALTER TABLE sessions ADD COLUMN keepalives INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN egress_bytes INTEGER NOT NULL DEFAULT 0;
