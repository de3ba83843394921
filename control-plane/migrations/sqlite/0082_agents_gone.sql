-- Since when an agent is gone: its lease has lapsed, and none of its sessions is left to be
-- ended. NULL: it lives, or there is something to do for it. No index has a column that changes
-- with each heartbeat or session.
ALTER TABLE agents ADD COLUMN gone_us INTEGER;

DROP INDEX agents_region;
DROP INDEX agents_lease;
CREATE INDEX agents_living ON agents (region) WHERE gone_us IS NULL;
CREATE INDEX agents_gone ON agents (gone_us) WHERE gone_us IS NOT NULL;
