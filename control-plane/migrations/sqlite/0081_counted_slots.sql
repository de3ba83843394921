-- The database itself counts, in the transaction that takes or frees a slot, whichever
-- statement does so.
CREATE TRIGGER sessions_slot_taken AFTER INSERT ON sessions WHEN NEW.slot_held = 1
BEGIN
    UPDATE agents SET in_use = in_use + 1 WHERE id = NEW.agent_id;
END;
CREATE TRIGGER sessions_slot_changed AFTER UPDATE OF agent_id, slot_held ON sessions
WHEN OLD.agent_id IS NOT NEW.agent_id OR OLD.slot_held <> NEW.slot_held
BEGIN
    UPDATE agents SET in_use = in_use - 1 WHERE id = OLD.agent_id AND OLD.slot_held = 1;
    UPDATE agents SET in_use = in_use + 1 WHERE id = NEW.agent_id AND NEW.slot_held = 1;
END;
CREATE TRIGGER sessions_slot_deleted AFTER DELETE ON sessions WHEN OLD.slot_held = 1
BEGIN
    UPDATE agents SET in_use = in_use - 1 WHERE id = OLD.agent_id;
END;

UPDATE agents SET in_use =
    (SELECT COUNT(*) FROM sessions WHERE agent_id = agents.id AND slot_held = 1);
