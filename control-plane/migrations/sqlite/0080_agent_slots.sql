-- How many sessions hold a slot on an agent: placement reads it for each create.
ALTER TABLE agents ADD COLUMN in_use INTEGER NOT NULL DEFAULT 0;
