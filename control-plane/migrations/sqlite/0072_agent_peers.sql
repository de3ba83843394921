-- Where the other agents of its region reach an agent, and by what key they know what it
-- forwards to them (Ed25519, public; empty: it forwards nothing).
ALTER TABLE agents ADD COLUMN peer_url TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN forwarding_key BLOB NOT NULL DEFAULT x'';
