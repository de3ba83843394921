-- A list of one state is read from its end, however many sessions of other states there are.
CREATE INDEX sessions_status ON sessions (workspace_id, status, id);
DROP INDEX sessions_live;
