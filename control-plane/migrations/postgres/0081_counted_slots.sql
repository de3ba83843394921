-- The database itself counts, in the transaction that takes or frees a slot: whichever release
-- of a replica does so, and whichever statement, while replicas are replaced too.
LOCK TABLE agents IN EXCLUSIVE MODE;
LOCK TABLE sessions IN SHARE ROW EXCLUSIVE MODE;

CREATE FUNCTION count_slots() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.slot_held = 1 THEN
        UPDATE agents SET in_use = in_use - 1 WHERE id = OLD.agent_id;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.slot_held = 1 THEN
        UPDATE agents SET in_use = in_use + 1 WHERE id = NEW.agent_id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER sessions_slot_taken AFTER INSERT ON sessions
    FOR EACH ROW WHEN (NEW.slot_held = 1) EXECUTE FUNCTION count_slots();
CREATE TRIGGER sessions_slot_changed AFTER UPDATE OF agent_id, slot_held ON sessions
    FOR EACH ROW WHEN ((OLD.agent_id, OLD.slot_held) IS DISTINCT FROM (NEW.agent_id, NEW.slot_held))
    EXECUTE FUNCTION count_slots();
CREATE TRIGGER sessions_slot_deleted AFTER DELETE ON sessions
    FOR EACH ROW WHEN (OLD.slot_held = 1) EXECUTE FUNCTION count_slots();

UPDATE agents SET in_use =
    (SELECT COUNT(*) FROM sessions WHERE agent_id = agents.id AND slot_held = 1);
