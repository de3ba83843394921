-- What agents have yet to do, or may not know of, of all of them: few rows, however many
-- sessions there are. kept_us is when a session was last kept alive.
ALTER TABLE sessions ADD COLUMN kept_us BIGINT;

CREATE INDEX sessions_pending ON sessions (agent_id) WHERE slot_held = 1 AND status <> 'RUNNING';
CREATE INDEX sessions_kept ON sessions (kept_us)
    WHERE slot_held = 1 AND status = 'RUNNING' AND kept_us IS NOT NULL;
CREATE INDEX file_orders_open ON file_orders (session_id) WHERE status = 'ASKED';

-- Without it PostgreSQL takes the two conditions for independent, and reads as for many rows.
CREATE STATISTICS sessions_slot_status (mcv) ON slot_held, status FROM sessions;
