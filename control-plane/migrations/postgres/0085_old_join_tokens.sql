-- Since when a token is no longer good, or when it will not be: old ones are found by it.
CREATE INDEX join_tokens_end ON join_tokens (COALESCE(revoked_us, expires_us));
