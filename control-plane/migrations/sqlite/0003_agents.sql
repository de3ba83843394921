-- An agent lives while lease_expires_us is ahead of the database's clock. How many sessions
-- it runs is not a column: it is the count of sessions that hold a slot on it.
CREATE TABLE agents (
    id TEXT NOT NULL PRIMARY KEY,
    region TEXT NOT NULL,
    instance TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    capacity INTEGER NOT NULL,
    warm INTEGER NOT NULL,
    data_plane_url TEXT NOT NULL,
    browser_version TEXT NOT NULL,
    draining INTEGER NOT NULL DEFAULT 0 CHECK (draining IN (0, 1)),
    lease_expires_us INTEGER NOT NULL,
    connected_us INTEGER NOT NULL
) STRICT;

CREATE INDEX agents_region ON agents (region, lease_expires_us);
CREATE INDEX agents_lease ON agents (lease_expires_us);
