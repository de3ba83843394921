// Runs named scenarios and prints one JSON line for each: what was seen, or why it failed.
import { inflateSync } from 'node:zlib';
import assert from 'node:assert/strict';

const SCENARIO_MS = 180_000;

/** @param {Record<string, (place: {endpoint: string, site: string}) => Promise<object>>} scenarios */
export async function run(scenarios) {
  const [endpoint, site, ...only] = process.argv.slice(2);
  let failed = false;
  for (const [scenario, steps] of Object.entries(scenarios)) {
    if (only.length && !only.includes(scenario)) continue;
    const started = Date.now();
    let timer;
    try {
      const deadline = new Promise((_, late) => {
        timer = setTimeout(() => late(new Error(`not done in ${SCENARIO_MS} ms`)), SCENARIO_MS);
      });
      const seen = await Promise.race([steps({ endpoint, site }), deadline]);
      print({ scenario, seen: seen ?? null });
    } catch (error) {
      failed = true;
      print({ scenario, error: String(error?.stack ?? error).replaceAll(endpoint, '<endpoint>') });
    } finally {
      clearTimeout(timer);
    }
    if (process.env.TIMES) console.error(`${scenario}: ${Date.now() - started} ms`);
  }
  // a pipe takes a long line in parts, and exiting cuts it
  await new Promise(written => process.stdout.write('', written));
  process.exit(failed ? 1 : 0);
}

function print(line) {
  // not every reader of JSON takes half a surrogate pair
  const whole = (_, value) =>
    typeof value === 'string' ? value.replace(/\p{Surrogate}/gu, half => `<${half.charCodeAt(0).toString(16)}>`) : value;
  process.stdout.write(`${JSON.stringify(line, whole)}\n`);
}

/** Decodes a PNG far enough to know that every row is there; answers its size and a pixel. */
export function png(bytes) {
  const data = Buffer.from(bytes);
  assert.equal(data.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n', 'a PNG signature');
  let at = 8;
  let header;
  const parts = [];
  while (at < data.length) {
    const length = data.readUInt32BE(at);
    const type = data.toString('latin1', at + 4, at + 8);
    const body = data.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') header = { width: body.readUInt32BE(0), height: body.readUInt32BE(4), depth: body[8], colour: body[9] };
    if (type === 'IDAT') parts.push(body);
    at += length + 12;
    if (type === 'IEND') break;
  }
  assert.equal(at, data.length, 'nothing after the last chunk');
  const channels = { 0: 1, 2: 3, 4: 2, 6: 4 }[header.colour];
  const rows = inflateSync(Buffer.concat(parts));
  assert.equal(rows.length, header.height * (1 + header.width * channels), 'every row');
  // the first pixel of the first row needs no unfiltering
  return { width: header.width, height: header.height, first: [...rows.subarray(1, 4)] };
}

/** Waits for a condition to hold, polling. */
export async function eventually(condition, what, ms = 20_000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < end, `${what}: not within ${ms} ms`);
    await new Promise(again => setTimeout(again, 20));
  }
}

/** What a page answers to `/echo`, without what differs by run. */
export function echoed(text) {
  const { method, headers } = JSON.parse(text);
  return { method, ventus: headers['x-ventus'] ?? null };
}
