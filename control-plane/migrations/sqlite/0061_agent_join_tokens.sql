-- The token that an agent joined with last: while it is good, so is the agent's lease. NULL:
-- the server's own token, which is good for any region.
ALTER TABLE agents ADD COLUMN join_token TEXT REFERENCES join_tokens (id);

CREATE INDEX agents_join_token ON agents (join_token) WHERE join_token IS NOT NULL;
