-- Also finds the sessions of an agent that are over: while there are any, its row stays.
CREATE INDEX sessions_agent ON sessions (agent_id, slot_held);
DROP INDEX sessions_slots;
