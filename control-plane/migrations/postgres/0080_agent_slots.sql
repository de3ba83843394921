-- How many sessions hold a slot on an agent: placement reads it for each create. It changes
-- far more often than anything else here, so pages have room for the next version of a row.
ALTER TABLE agents ADD COLUMN in_use BIGINT NOT NULL DEFAULT 0;
ALTER TABLE agents SET (fillfactor = 50);
