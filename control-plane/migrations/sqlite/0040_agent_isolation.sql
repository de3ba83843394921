-- What confines an agent's browsers, as JSON: [{"name", "active", "detail"}].
ALTER TABLE agents ADD COLUMN isolation TEXT NOT NULL DEFAULT '[]';
