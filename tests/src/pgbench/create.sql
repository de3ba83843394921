-- The rows that a create writes until its session runs, in as many transactions, and nothing
-- else: no reads, no locks, one round trip for each statement. Given: run and n (together unique
-- over all clients with client_id), workspace, key; agents 1 to 1000.
\set n :n + 1
\set agent random(1, 1000)

INSERT INTO rate_limits AS known (key_id, minute, in_minute, day, in_day, passed)
SELECT :key, 1, 1, 1, 1, TRUE WHERE set_config('synchronous_commit', 'off', TRUE) = 'off'
ON CONFLICT (key_id) DO UPDATE SET in_minute = known.in_minute + 1, in_day = known.in_day + 1;

BEGIN;
INSERT INTO sessions (id, workspace_id, region, agent_id, status, timeout_seconds,
    keep_alive_seconds, viewport_width, viewport_height, labels, traceparent, slot_held,
    created_us, expires_us, has_inputs)
VALUES (lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'), :workspace, 'local',
    lpad(:agent, 26, '0'), 'PROVISIONING', 86400, 0, 1280, 720, '{}', '', 1,
    1764000000000000 + CAST(:n AS BIGINT), 1764086400000000 + CAST(:n AS BIGINT), 0);
INSERT INTO session_events (session_id, seq, status, at_us)
VALUES (lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'), 1, 'QUEUED',
        1764000000000000 + CAST(:n AS BIGINT)),
    (lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'), 2, 'PROVISIONING',
        1764000000000000 + CAST(:n AS BIGINT));
INSERT INTO outbox (id, workspace_id, kind, subject_id, payload, created_us)
VALUES ('1' || lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 5, '0'), :workspace,
    'session.transition', lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'),
    '{"at": "2026-11-23T02:00:00.000Z", "reason": null, "status": "QUEUED"}',
    1764000000000000 + CAST(:n AS BIGINT));
INSERT INTO outbox (id, workspace_id, kind, subject_id, payload, created_us)
VALUES ('2' || lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 5, '0'), :workspace,
    'session.transition', lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'),
    '{"at": "2026-11-23T02:00:00.000Z", "reason": null, "status": "PROVISIONING"}',
    1764000000000000 + CAST(:n AS BIGINT));
INSERT INTO idempotency (workspace_id, key, fingerprint, session_id, created_us, expires_us)
VALUES (:workspace, lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'),
    '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'),
    1764000000000000 + CAST(:n AS BIGINT), 1764086400000000 + CAST(:n AS BIGINT));
INSERT INTO audit (id, workspace_id, at_us, actor_kind, actor_id, action, target_kind, target_id,
    detail, ip, user_agent)
VALUES (lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'), :workspace,
    1764000000000000 + CAST(:n AS BIGINT), 'api_key', :key, 'session.create', 'session',
    lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'), '{"region": "local"}',
    '127.0.0.1', NULL);
COMMIT;

BEGIN;
UPDATE sessions SET status = 'RUNNING', started_us = 1764000000000000 + CAST(:n AS BIGINT)
WHERE id = lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0');
INSERT INTO session_events (session_id, seq, status, at_us)
VALUES (lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'), 3, 'RUNNING',
    1764000000000000 + CAST(:n AS BIGINT));
INSERT INTO outbox (id, workspace_id, kind, subject_id, payload, created_us)
VALUES ('3' || lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 5, '0'), :workspace,
    'session.transition', lpad(:run, 4, '0') || lpad(:n, 16, '0') || lpad(:client_id, 6, '0'),
    '{"at": "2026-11-23T02:00:00.000Z", "reason": null, "status": "RUNNING"}',
    1764000000000000 + CAST(:n AS BIGINT));
COMMIT;
