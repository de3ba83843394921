-- Also finds captures that were answered: an agent's row goes only after them.
CREATE INDEX captures_agent ON captures (agent_id, status);
DROP INDEX captures_asked;
