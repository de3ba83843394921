-- An agent lives while lease_expires_us is ahead of the database's clock. How many sessions
-- it runs is not a column: it is the count of sessions that hold a slot on it.
CREATE TABLE agents (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    region TEXT COLLATE "C" NOT NULL,
    instance TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    capacity BIGINT NOT NULL,
    warm BIGINT NOT NULL,
    data_plane_url TEXT COLLATE "C" NOT NULL,
    browser_version TEXT COLLATE "C" NOT NULL,
    draining BIGINT NOT NULL DEFAULT 0 CHECK (draining IN (0, 1)),
    lease_expires_us BIGINT NOT NULL,
    connected_us BIGINT NOT NULL
);

CREATE INDEX agents_region ON agents (region, lease_expires_us);
CREATE INDEX agents_lease ON agents (lease_expires_us);
