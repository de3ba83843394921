// Drives a server with openapi-fetch, typed by what openapi-typescript made of its document.
//
//     client.js BASE_URL        (VENTUS_API_KEY holds the key)

import createClient from 'openapi-fetch';
import type { components, paths } from './schema.js';

declare const process: { argv: string[]; env: Record<string, string | undefined> };

type Session = components['schemas']['Session'];
type Problem = components['schemas']['Problem'];

function check(holds: boolean, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

const baseUrl = process.argv[2] ?? '';
const headers = { Authorization: `Bearer ${process.env['VENTUS_API_KEY'] ?? ''}` };
const api = createClient<paths>({ baseUrl, headers });
const team = crypto.randomUUID();

const wanted = {
  params: { header: { 'Idempotency-Key': crypto.randomUUID(), Prefer: 'wait=30' } },
  body: { timeout_seconds: 60, viewport: { width: 800, height: 600 }, labels: { team } },
};
const created = await api.POST('/v1/sessions', wanted);
check(created.response.status === 201 && created.data !== undefined, created.error);
const session: Session = created.data;
check(session.status === 'RUNNING' && session.connect_url !== null, session);
check(session.viewport.width === 800 && session.labels['team'] === team, session);
check(created.response.headers.get('location') === `/v1/sessions/${session.id}`, session.id);
const replayed = await api.POST('/v1/sessions', wanted);
check(replayed.response.status === 200 && replayed.data?.id === session.id, replayed);

// openapi-fetch writes an object as label[…]; the contract's form is one parameter a label.
const page = await api.GET('/v1/sessions', {
  params: { query: { label: { 'label.team': team }, status: ['RUNNING'], limit: 1 } },
  querySerializer: ({ label, status, ...rest }) =>
    new URLSearchParams([
      ...Object.entries(label ?? {}),
      ...(status ?? []).map((one) => ['status', one]),
      ...Object.entries(rest).map(([name, value]) => [name, String(value)]),
    ]).toString(),
});
check(page.data?.items.length === 1 && page.data.items[0]?.id === session.id, page);
check(page.data.has_more === false && page.data.next_cursor === null, page.data);

const path = { params: { path: { id: session.id } } };
const changed = await api.PATCH('/v1/sessions/{id}', { ...path, body: { labels: { team: 'other' } } });
check(changed.data?.labels['team'] === 'other', changed);
const released = await api.DELETE('/v1/sessions/{id}', path);
check(released.response.status === 204, released.error);
const over = await api.GET('/v1/sessions/{id}', path);
check(over.data?.status === 'COMPLETED' && over.data.connect_url === null, over);
check(over.data.status_reason?.code === 'released', over.data);
const events = await api.GET('/v1/sessions/{id}/events', path);
check(events.data?.items.at(-1)?.status === 'COMPLETED', events);

const missing = await api.GET('/v1/sessions/{id}', { params: { path: { id: '0'.repeat(26) } } });
const problem: Problem | undefined = missing.error;
check(problem?.status === 404 && problem.type.endsWith('/errors/not-found'), problem);

// @ts-expect-error: a number of seconds is no text
const wrong: components['schemas']['CreateSession'] = { timeout_seconds: '60' };
const invalid = await api.POST('/v1/sessions', { ...wanted, body: wrong });
check(invalid.error?.errors?.[0]?.pointer === '/timeout_seconds', invalid.error);
