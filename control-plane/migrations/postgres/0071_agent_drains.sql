-- Why an agent gets no new session (draining = 1): an operator drains it since draining_us,
-- and it ends what is left at drain_deadline_us; or its own process was told to stop.
ALTER TABLE agents ADD COLUMN draining_us BIGINT;
ALTER TABLE agents ADD COLUMN drain_deadline_us BIGINT;
ALTER TABLE agents ADD COLUMN leaving_us BIGINT;
