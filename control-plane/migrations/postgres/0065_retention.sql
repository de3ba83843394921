-- What is old is found by its age, whatever else there is.
CREATE INDEX sessions_ended ON sessions (ended_us) WHERE slot_held = 0;
CREATE INDEX audit_age ON audit (at_us);
