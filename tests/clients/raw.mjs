// Raw CDP: what no library sends, and the order and shape of what comes back.
// Every scenario answers what was seen with ids named in order of appearance, so that the
// same scenario on Chrome's own port and on a connect URL can be compared word by word.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { Names, Raw, beside, http } from './cdp.mjs';
import { cases, fill, mutants } from './grammar.mjs';
import { eventually, run } from './scenarios.mjs';

const QUIET = { discover: false };
const WAITING = { autoAttach: true, waitForDebuggerOnStart: true, flatten: true };
const fence = (id, extra = {}) => JSON.stringify({ id, method: 'Target.setDiscoverTargets', params: QUIET, ...extra });
const pageUrl = (endpoint, target) => beside(endpoint, `devtools/page/${target}`).href;

/** A message as it came, shortened, with its ids named. */
function told(messages, names = new Names()) {
  return messages.map(text => {
    const named = names.text(String(text)).replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, id => names.name('uuid', id));
    return named.length > 600 ? `${named.slice(0, 300)}…${named.length}` : named;
  });
}

/** Only the messages that answer, and the named events: what else comes depends on timing. */
const only = (messages, ...methods) =>
  messages.filter(text => /^\{"(id|error)"/.test(text) || methods.some(m => text.startsWith(`{"method":"${m}"`)));

async function withClients(endpoint, count, steps) {
  const clients = [];
  for (let n = 0; n < count; n++) clients.push(await Raw.open(endpoint));
  try {
    return await steps(...clients);
  } finally {
    for (const client of clients) if (!client.closed) await client.close();
  }
}

/** Opens what a context of the grammar needs; `open` again when Chrome dropped it. */
function stage(endpoint, context, main) {
  const now = { raw: null, session: '' };
  now.open = async () => {
    if (now.raw && !now.raw.closed) await now.raw.close();
    const { targetId } = await main.ask('Target.createTarget', { url: 'about:blank' });
    now.targets = [...(now.targets ?? []), targetId];
    now.session = '';
    if (context === 'page') {
      now.raw = await Raw.open(pageUrl(endpoint, targetId));
      return;
    }
    now.raw = await Raw.open(endpoint);
    if (context === 'flat') now.session = (await now.raw.ask('Target.attachToTarget', { targetId, flatten: true })).sessionId;
    if (context === 'nested') now.session = (await now.raw.ask('Target.attachToBrowserTarget')).sessionId;
  };
  /** Sends one odd message, and waits until whatever it causes must have come. */
  now.judge = async message => {
    const { raw, session } = now;
    const from = raw.transcript.length;
    const [inner, outer] = [raw.nextId++, raw.nextId++];
    const onPage = { id: inner, method: 'Runtime.evaluate', params: { expression: '1' } };
    raw.send(fill(message, session));
    if (context === 'flat') raw.send(JSON.stringify({ ...onPage, sessionId: session }));
    else if (context === 'page') raw.send(JSON.stringify(onPage));
    else raw.send(fence(inner, session ? { sessionId: session } : {}));
    raw.send(fence(outer));
    let dropped = false;
    try {
      await raw.message(m => m.id === outer, 'the outer fence', from);
      await raw.message(m => m.id === inner, 'the inner fence', from);
    } catch (error) {
      if (!raw.closed) throw error;
      dropped = true;
    }
    const answers = raw.transcript
      .slice(from)
      .filter(text => !text.startsWith(`{"id":${inner},`) && !text.startsWith(`{"id":${outer},`))
      .map(text => (session ? text.replaceAll(session, '$S') : text));
    if (dropped) {
      answers.push('dropped');
      await now.open();
    }
    return told(answers);
  };
  now.end = async () => {
    await now.raw.close();
    for (const targetId of now.targets) await main.call('Target.closeTarget', { targetId });
  };
  return now;
}

async function judgeAll(endpoint, messages) {
  const seen = {};
  const main = await Raw.open(endpoint);
  for (const context of ['root', 'flat', 'nested', 'page']) {
    const now = stage(endpoint, context, main);
    await now.open();
    for (const [name, message] of Object.entries(messages)) {
      (seen[name] ??= {})[context] = await now.judge(message);
    }
    await now.end();
  }
  await main.close();
  return seen;
}

await run({
  grammar: ({ endpoint }) => judgeAll(endpoint, cases),

  // the same mutants every time: what differs is a bug, and names the message
  mutants: async ({ endpoint }) => {
    const messages = mutants(Number(process.env.MUTANTS_SEED ?? 1), Number(process.env.MUTANTS ?? 300));
    const seen = await judgeAll(endpoint, messages);
    return Object.fromEntries(Object.entries(seen).map(([name, answers]) => [`${name}: ${messages[name].toString('latin1').slice(0, 300)}`, answers]));
  },

  'ids in flight twice': async ({ endpoint }) =>
    withClients(endpoint, 1, async raw => {
      const { targetId, sessionId } = await raw.page();
      const slow = id => ({ id, method: 'Runtime.evaluate', params: { expression: 'new Promise(done => { window.go = () => done(1) })', awaitPromise: true } });
      const release = async send => {
        await eventually(async () => (await raw.evaluate('typeof window.go', sessionId)) === 'function', 'the promise');
        await raw.evaluate('window.go(); delete window.go', sessionId);
        return send;
      };
      const seen = {};
      let from = raw.transcript.length;
      raw.send(JSON.stringify({ ...slow(5), sessionId }));
      raw.send(JSON.stringify({ ...slow(5), sessionId }));
      await raw.message(m => m.id === 5 && m.error, 'the refusal', from);
      await release();
      await raw.message(m => m.id === 5 && m.result, 'the answer', from);
      seen.flat = told(raw.transcript.slice(from).filter(t => t.startsWith('{"id":5,')));

      from = raw.transcript.length;
      raw.send(JSON.stringify({ ...slow(5), sessionId }));
      raw.send(JSON.stringify({ id: 5, method: 'Target.getTargetInfo', sessionId }));
      await raw.message(m => m.id === 5 && m.result?.targetInfo, 'the browser\'s answer', from);
      await release();
      await raw.message(m => m.id === 5 && m.result?.result, 'the page\'s answer', from);
      seen.mixed = told(raw.transcript.slice(from).filter(t => t.startsWith('{"id":5,')));

      from = raw.transcript.length;
      for (let n = 0; n < 3; n++) raw.send('{"id":6,"method":"SystemInfo.getProcessInfo"}');
      await raw.until(() => raw.transcript.slice(from).filter(t => t.startsWith('{"id":6,')).length === 3, 'three answers');
      const nested = (await raw.ask('Target.attachToBrowserTarget')).sessionId;
      from = raw.transcript.length;
      for (let n = 0; n < 3; n++) raw.send(JSON.stringify({ id: 6, method: 'SystemInfo.getProcessInfo', sessionId: nested }));
      await raw.until(() => raw.transcript.slice(from).filter(t => t.startsWith('{"id":6,')).length === 3, 'three answers');
      seen.browser = 'all answered';

      const page = await Raw.open(pageUrl(endpoint, targetId));
      page.send(JSON.stringify(slow(5)));
      page.send(JSON.stringify(slow(5)));
      await page.message(m => m.id === 5 && m.error, 'the refusal');
      await release();
      await page.message(m => m.id === 5 && m.result, 'the answer');
      seen.page = told(page.transcript);
      await page.close();
      await raw.ask('Target.closeTarget', { targetId });
      return seen;
    }),

  // two clients, the same ids on both, in step
  'ids of two clients': async ({ endpoint }) =>
    withClients(endpoint, 2, async (a, b) => {
      const pages = [await a.page(), await b.page()];
      await a.evaluate('window.who = "a"', pages[0].sessionId);
      await b.evaluate('window.who = "b"', pages[1].sessionId);
      const from = [a.transcript.length, b.transcript.length];
      for (let id = 1; id <= 500; id++) {
        for (const [n, raw] of [a, b].entries()) {
          raw.send(JSON.stringify({ id, method: 'Runtime.evaluate', params: { expression: `who + ${id}` }, sessionId: pages[n].sessionId }));
        }
      }
      const seen = [];
      for (const [n, raw] of [a, b].entries()) {
        await raw.until(() => raw.transcript.length - from[n] >= 500, '500 answers');
        const answers = raw.transcript.slice(from[n]).map(t => JSON.parse(t));
        seen.push(answers.every((m, k) => m.id === k + 1 && m.result.result.value === `${'ab'[n]}${k + 1}` && m.sessionId === pages[n].sessionId));
      }
      // neither may touch what is the other's
      const stolen = [];
      for (const [method, params, sessionId] of [
        ['Runtime.evaluate', { expression: '1' }, pages[0].sessionId],
        ['Target.detachFromTarget', { sessionId: pages[0].sessionId }],
        ['Target.sendMessageToTarget', { sessionId: pages[0].sessionId, message: '{"id":1,"method":"Runtime.enable"}' }],
      ]) {
        const id = b.nextId++;
        const at = b.transcript.length;
        b.send(JSON.stringify({ id, method, params, sessionId }));
        await b.message(m => m.id === id, 'the refusal', at);
        stolen.push(b.transcript.slice(at).find(t => t.startsWith(`{"id":${id},`)).replace(String(id), 'N'));
      }
      await a.ask('Target.closeTarget', { targetId: pages[0].targetId });
      await b.ask('Target.closeTarget', { targetId: pages[1].targetId });
      assert.deepEqual(seen, [true, true]);
      return { seen, stolen: told(stolen) };
    }),

  order: async ({ endpoint }) =>
    withClients(endpoint, 1, async raw => {
      const events = ['Target.targetCreated', 'Target.attachedToTarget', 'Target.detachedFromTarget', 'Target.targetDestroyed', 'Inspector.detached'];
      const names = new Names();
      const seen = {};
      const step = async (name, method, params, sessionId) => {
        const from = raw.transcript.length;
        const answer = await raw.call(method, params, sessionId);
        const id = JSON.parse(raw.transcript[answer.at]).id;
        seen[name] = told(only(raw.transcript.slice(from, answer.at + 1), ...events).map(t => t.replace(`"id":${id},`, '"id":N,')), names);
        return answer.result ?? {};
      };
      await raw.ask('Target.setDiscoverTargets', { discover: true, filter: [{ type: 'page' }] });
      const { targetId } = await step('create', 'Target.createTarget', { url: 'about:blank' });
      const flat = await step('attach flat', 'Target.attachToTarget', { targetId, flatten: true });
      const legacy = await step('attach legacy', 'Target.attachToTarget', { targetId });
      await step('legacy used flat', 'Runtime.evaluate', { expression: '1' }, legacy.sessionId);
      const nested = await step('attach to the browser', 'Target.attachToBrowserTarget');
      const deeper = await step('and in that again', 'Target.attachToBrowserTarget', {}, nested.sessionId);
      const page = await step('attach in that', 'Target.attachToTarget', { targetId, flatten: true }, deeper.sessionId);
      await step('use it', 'Runtime.evaluate', { expression: '1+1' }, page.sessionId);
      await step('a grandchild is not the root\'s to detach', 'Target.detachFromTarget', { sessionId: page.sessionId });
      await step('detach the nested one', 'Target.detachFromTarget', { sessionId: nested.sessionId });
      for (const [name, { sessionId }] of Object.entries({ nested, deeper, page })) await step(`${name} is gone`, 'Browser.getVersion', {}, sessionId);
      await step('detach twice', 'Target.detachFromTarget', { sessionId: nested.sessionId });
      await step('detach nothing', 'Target.detachFromTarget', {});
      await step('a session detaches itself', 'Target.detachFromTarget', { sessionId: flat.sessionId }, flat.sessionId);
      await step('detach legacy', 'Target.detachFromTarget', { sessionId: legacy.sessionId });
      // a command straight behind the detach
      const from = raw.transcript.length;
      raw.send(JSON.stringify({ id: 1, method: 'Target.detachFromTarget', params: { sessionId: flat.sessionId } }));
      raw.send(JSON.stringify({ id: 2, method: 'Runtime.evaluate', params: { expression: '1' }, sessionId: flat.sessionId }));
      await raw.message(m => m.id === 2, 'the answer', from);
      seen['used right after its detach'] = told(only(raw.transcript.slice(from), ...events), names);
      const again = await step('attach again', 'Target.attachToTarget', { targetId, flatten: true });
      const closing = raw.transcript.length;
      raw.send(JSON.stringify({ id: 3, method: 'Runtime.evaluate', params: { expression: 'new Promise(() => {})', awaitPromise: true }, sessionId: again.sessionId }));
      raw.send(JSON.stringify({ id: 4, method: 'Target.closeTarget', params: { targetId } }));
      await raw.event('Target.targetDestroyed', () => true, closing);
      await raw.ask('Target.setDiscoverTargets', QUIET);
      // what of these comes first is a race inside Chrome
      seen['closed with a command in flight'] = told(only(raw.transcript.slice(closing, -1), ...events), names).sort();
      return seen;
    }),

  legacy: async ({ endpoint }) =>
    withClients(endpoint, 1, async raw => {
      const { targetId } = await raw.ask('Target.createTarget', { url: 'about:blank' });
      const { sessionId } = await raw.ask('Target.attachToTarget', { targetId });
      const flat = (await raw.ask('Target.attachToTarget', { targetId, flatten: true })).sessionId;
      const names = new Names();
      const inner = {
        evaluate: '{"id":1,"method":"Runtime.evaluate","params":{"expression":"1+1"}}',
        'not JSON': 'nope',
        empty: '',
        'empty object': '{}',
        array: '[]',
        'no method': '{"id":1}',
        'unknown method': '{"id":1,"method":"Foo.bar"}',
        'unknown session': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"},"sessionId":"x"}',
        'a flat session': JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: '1' }, sessionId: flat }),
        'empty session': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"},"sessionId":""}',
        'session null': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"},"sessionId":null}',
        'duplicate id': '{"id":1,"id":2,"method":"x"}',
        'raw NUL': '{"id":1,"method":"Foo.\u0000"}',
        'NUL splits': '{"id":1,"method":"Foo.bar"}\u0000{"id":2,"method":"Foo.bar"}',
        'deep': `{"id":1,"method":"Runtime.evaluate","params":{"expression":"1","x":${'['.repeat(200)}${']'.repeat(200)}}}`,
        'lone surrogate': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"\'\\\\ud800\'"}}',
      };
      const seen = {};
      for (const [name, message] of Object.entries(inner)) {
        const from = raw.transcript.length;
        await raw.ask('Target.sendMessageToTarget', { sessionId, message });
        await raw.event('Target.receivedMessageFromTarget', () => true, from);
        seen[name] = told(raw.transcript.slice(from).filter(t => !t.startsWith('{"id"')), names);
      }
      for (const [name, params] of Object.entries({
        'by target, two sessions': { targetId, message: '{}' },
        'to a flat session': { sessionId: flat, message: '{}' },
        'to an unknown session': { sessionId: 'nope', message: '{}' },
        'to nothing': { message: '{}' },
        'no message': { sessionId },
        'message not a string': { sessionId, message: 5 },
      })) {
        seen[name] = (await raw.call('Target.sendMessageToTarget', params)).error ?? 'ok';
      }
      // legacy in legacy: a browser session's page session, without flatten
      await raw.ask('Target.detachFromTarget', { sessionId: flat });
      const only = await raw.call('Target.sendMessageToTarget', { targetId, message: '{"id":9,"method":"Foo.bar"}' });
      seen['by target, one session'] = only.error ?? 'ok';
      const nested = (await raw.ask('Target.attachToBrowserTarget')).sessionId;
      const inside = (await raw.ask('Target.attachToTarget', { targetId }, nested)).sessionId;
      const from = raw.transcript.length;
      await raw.ask('Target.sendMessageToTarget', { sessionId: inside, message: '{"id":1,"method":"Runtime.evaluate","params":{"expression":"6*7"}}' }, nested);
      const event = await raw.event('Target.receivedMessageFromTarget', () => true, from);
      assert.equal(event.sessionId, nested);
      seen['in a nested session'] = told([event.params.message], names);
      await raw.ask('Target.closeTarget', { targetId });
      return seen;
    }),

  'auto-attach': async ({ endpoint, site }) =>
    withClients(endpoint, 2, async (raw, other) => {
      const { targetId, sessionId } = await raw.page();
      await raw.ask('Target.setAutoAttach', WAITING, sessionId);
      await raw.ask('Page.enable', {}, sessionId);
      await raw.ask('Page.navigate', { url: `${site}/frames.html` }, sessionId);
      const frame = await raw.event('Target.attachedToTarget', p => p.targetInfo.type === 'iframe');
      assert.equal(frame.sessionId, sessionId);
      const child = frame.params.sessionId;
      await raw.ask('Target.setAutoAttach', WAITING, child);
      await raw.ask('Runtime.runIfWaitingForDebugger', {}, child);
      const worker = await raw.event('Target.attachedToTarget', p => p.targetInfo.type === 'worker');
      const grandchild = worker.params.sessionId;
      const paused = (await eventually(() => raw.evaluate('document.readyState', child), 'the frame')) && (await raw.evaluate('window.fromWorker ?? null', child));
      await raw.ask('Runtime.runIfWaitingForDebugger', {}, grandchild);
      const fromWorker = await eventually(() => raw.evaluate('window.fromWorker ?? null', child), 'the worker\'s answer');
      const seen = {
        frame: { ...frame.params, sessionId: 0, targetInfo: Object.keys(frame.params.targetInfo), url: frame.params.targetInfo.url.replace(/:\d+/, '') },
        worker: { type: worker.params.targetInfo.type, waiting: worker.params.waitingForDebugger, parent: worker.sessionId === child },
        paused,
        fromWorker,
        inside: await raw.evaluate('self.name2', grandchild),
        where: await raw.evaluate('location.hostname', child),
        others: other.transcript.length,
      };
      const from = raw.transcript.length;
      await raw.ask('Page.navigate', { url: 'about:blank' }, sessionId);
      await raw.event('Target.detachedFromTarget', p => p.sessionId === child, from);
      seen.gone = [];
      for (const session of [child, grandchild]) seen.gone.push((await raw.call('Runtime.evaluate', { expression: '1' }, session)).error ?? 'answered');
      await raw.ask('Target.closeTarget', { targetId });
      return seen;
    }),

  'tab target': async ({ endpoint }) =>
    withClients(endpoint, 1, async raw => {
      const { targetId } = await raw.ask('Target.createTarget', { url: 'about:blank', forTab: true });
      const { sessionId } = await raw.ask('Target.attachToTarget', { targetId, flatten: true });
      await raw.ask('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: true, filter: [{}] }, sessionId);
      const page = await raw.event('Target.attachedToTarget', p => p.targetInfo.type === 'page');
      assert.equal(page.sessionId, sessionId);
      const seen = { value: await raw.evaluate('6*7', page.params.sessionId), waiting: page.params.waitingForDebugger };
      await raw.ask('Target.closeTarget', { targetId });
      return seen;
    }),

  popup: async ({ endpoint, site }) =>
    withClients(endpoint, 1, async raw => {
      const { targetId, sessionId } = await raw.page(`${site}/popup.html`);
      await eventually(() => raw.evaluate('!!document.getElementById("open")', sessionId), 'the page');
      await raw.ask('Target.setAutoAttach', { ...WAITING, filter: [{ type: 'page' }] });
      // the opener's process stands still while its popup waits
      raw.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'document.getElementById("open").click()', userGesture: true }, sessionId }));
      const popup = await raw.event('Target.attachedToTarget', p => p.targetInfo.openerId === targetId);
      const from = raw.transcript.length;
      await raw.ask('Runtime.runIfWaitingForDebugger', {}, popup.params.sessionId);
      await eventually(async () => (await raw.evaluate('document.title', popup.params.sessionId)) === 'Second page', 'the popup loads');
      await raw.ask('Target.closeTarget', { targetId: popup.params.targetInfo.targetId });
      await raw.event('Target.detachedFromTarget', p => p.sessionId === popup.params.sessionId, from);
      await raw.ask('Target.closeTarget', { targetId });
      return { waiting: popup.params.waitingForDebugger, type: popup.params.targetInfo.type, parent: popup.sessionId ?? 'root' };
    }),

  'io handles': async ({ endpoint, site }) =>
    withClients(endpoint, 2, async (a, b) => {
      const streams = [];
      for (const raw of [a, b]) {
        const { targetId, sessionId } = await raw.page(`${site}/second.html`);
        await eventually(async () => (await raw.evaluate('document.title', sessionId)) === 'Second page', 'the page');
        const { stream } = await raw.ask('Page.printToPDF', { transferMode: 'ReturnAsStream' }, sessionId);
        streams.push({ raw, targetId, sessionId, stream });
      }
      const same = streams[0].stream === streams[1].stream;
      const seen = { same };
      // another session knows nothing of it
      seen.foreign = (await a.call('IO.read', { handle: streams[0].stream })).error;
      seen.parts = [];
      for (const { raw, targetId, sessionId, stream } of streams) {
        let bytes = 0;
        for (;;) {
          const part = await raw.ask('IO.read', { handle: stream, size: 500 }, sessionId);
          bytes += Buffer.from(part.data, part.base64Encoded ? 'base64' : 'utf8').length;
          if (part.eof) break;
        }
        await raw.ask('IO.close', { handle: stream }, sessionId);
        seen.parts.push(bytes > 1000);
        await raw.ask('Target.closeTarget', { targetId });
      }
      return seen;
    }),

  'large messages': async ({ endpoint }) =>
    withClients(endpoint, 2, async (raw, other) => {
      const { targetId, sessionId } = await raw.page();
      const page = await Raw.open(pageUrl(endpoint, targetId));
      const seen = {};
      for (const [name, client, session] of [['flat', raw, sessionId], ['page', page, undefined]]) {
        const argument = await client.evaluate(`'${'é'.repeat(10 << 20)}'.length`, session);
        const result = await client.evaluate('"x".repeat(50 << 20)', session);
        seen[name] = [argument, result.length, /^x+$/.test(result)];
        client.transcript.length = 0;
      }
      // as many bytes as Chrome takes: with the session's id that is added on the way
      const head = `{"id":7,"method":"Target.setDiscoverTargets","params":{"discover":false,"x":"`;
      page.send(`${head}${'x'.repeat(104_857_000 - head.length)}"}}`);
      await page.message(m => m.id === 7, 'the answer to 100 MB');
      // and more than that: this socket ends, nobody else notices
      page.send(`${head}${'x'.repeat(110_000_000)}"}}`);
      await page.until(() => page.closed, 'the end of the socket');
      seen.after = [await raw.evaluate('6*7', sessionId), (await other.ask('Target.getTargets')).targetInfos.some(t => t.targetId === targetId)];
      await raw.ask('Target.closeTarget', { targetId });
      return seen;
    }),

  'commands in flight': async ({ endpoint }) =>
    withClients(endpoint, 1, async raw => {
      const pages = [await raw.page(), await raw.page()];
      const from = raw.transcript.length;
      for (let id = 1; id <= 2000; id++) {
        raw.send(JSON.stringify({ id, method: 'Runtime.evaluate', params: { expression: String(id) }, sessionId: pages[id % 2].sessionId }));
      }
      for (let id = 2001; id <= 4000; id++) raw.send(JSON.stringify({ id, method: 'Target.getTargets' }));
      await raw.until(() => raw.transcript.length - from >= 4000, '4 000 answers');
      const answers = raw.transcript.slice(from).map(t => JSON.parse(t));
      // in order within each session, whatever the order between them
      const ordered = [pages[0].sessionId, pages[1].sessionId, undefined].map(session => {
        const ids = answers.filter(m => m.sessionId === session).map(m => m.id);
        return ids.every((id, n) => n === 0 || id > ids[n - 1]) && ids.length;
      });
      const right = answers.every(m => m.id > 2000 || m.result.result.value === m.id);
      for (const { targetId } of pages) await raw.ask('Target.closeTarget', { targetId });
      assert.deepEqual(ordered, [1000, 1000, 2000]);
      return { ordered, right };
    }),

  'many events': async ({ endpoint }) =>
    withClients(endpoint, 2, async (raw, other) => {
      const { targetId, sessionId } = await raw.page();
      const second = (await other.ask('Target.attachToTarget', { targetId, flatten: true })).sessionId;
      for (const [client, session] of [[raw, sessionId], [other, second]]) await client.ask('Runtime.enable', {}, session);
      raw.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'for (let n = 0; n < 50000; n++) console.log(n)' }, sessionId }));
      const seen = [];
      for (const client of [raw, other]) {
        const said = () => client.transcript.filter(t => t.startsWith('{"method":"Runtime.consoleAPICalled"'));
        await client.until(() => client.transcript.length >= 50_000 && client.transcript.at(-1).includes('"value":49999'), 'the last event', 40_000);
        seen.push(said().length === 50_000 && said().every((t, n) => t.includes(`"value":${n},`)));
      }
      await raw.ask('Target.closeTarget', { targetId });
      assert.deepEqual(seen, [true, true]);
      return { seen };
    }),

  text: async ({ endpoint }) =>
    withClients(endpoint, 1, async raw => {
      const { targetId, sessionId } = await raw.page();
      const asked = expression => {
        const from = raw.transcript.length;
        raw.send(`{"id":1,"method":"Runtime.evaluate","params":{"expression":${expression},"returnByValue":true},"sessionId":"${sessionId}"}`);
        return raw.message(m => m.id === 1, 'the answer', from).then(m => told([raw.transcript[m.at]])[0]);
      };
      const seen = {
        surrogates: await asked(String.raw`"'\ud800x\udc00'"`),
        nul: await asked(String.raw`"'a\u0000b'"`),
        'raw nul': await asked('"\'a\u0000b\'.length"'),
        astral: await asked('"\'😀\'"'),
        'raw control': await asked('"\'a\u0001b\u007f\'"'),
        separators: await asked('"\'\\u2028\\u2029\'"'),
        'like a session': await asked(String.raw`"'\",\"sessionId\":\"0123456789ABCDEF0123456789ABCDEF\"}'"`),
        'result 250 deep': await asked('"JSON.parse(\'[\'.repeat(250)+\']\'.repeat(250))"'),
        'result 290 deep': await asked('"JSON.parse(\'[\'.repeat(290)+\']\'.repeat(290))"'),
        'result 1000 deep': await asked('"JSON.parse(\'[\'.repeat(1000)+\']\'.repeat(1000))"'),
        numbers: await asked('"[1e21, -0, 0.1, 1/3, 2**53, 1e-7]"'),
      };
      await raw.ask('Target.closeTarget', { targetId });
      return seen;
    }),

  'page endpoint': async ({ endpoint }) =>
    withClients(endpoint, 1, async main => {
      const { targetId } = await main.ask('Target.createTarget', { url: 'about:blank' });
      const [a, b] = [await Raw.open(pageUrl(endpoint, targetId)), await Raw.open(pageUrl(endpoint, targetId))];
      await a.evaluate('window.set = 1');
      const shared = await b.evaluate('window.set');
      const quiet = [a.transcript.length, b.transcript.length];
      const answers = [];
      for (const [method, params] of [
        ['Target.attachToBrowserTarget', {}],
        ['Target.detachFromTarget', {}],
        ['Browser.getVersion', { nope: 1 }],
        ['Nope.nope', {}],
        ['Runtime.evaluate', {}],
        ['Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: true }],
      ]) {
        const answer = await a.call(method, params);
        answers.push([method, answer.error ?? 'ok', Object.keys(JSON.parse(a.transcript[answer.at]))]);
      }
      const own = await a.ask('Target.getTargetInfo');
      // a session attached through a page endpoint is flat there
      const child = (await a.call('Target.attachToTarget', { targetId, flatten: true })).error ?? 'attached';
      await a.ask('Runtime.enable');
      await b.ask('Page.enable');
      const froms = [a.transcript.length, b.transcript.length];
      a.send('{"id":99,"method":"Runtime.evaluate","params":{"expression":"new Promise(() => {})","awaitPromise":true}}');
      await a.evaluate('1');
      await main.ask('Target.closeTarget', { targetId });
      for (const raw of [a, b]) await raw.until(() => raw.closed, 'the end of the socket');
      const refused = await Raw.open(pageUrl(endpoint, targetId)).then(() => 'open', () => 'refused');
      return {
        shared,
        quiet,
        answers,
        own: own.targetInfo.targetId === targetId,
        child,
        end: [a, b].map((raw, n) => told(raw.transcript.slice(froms[n]).filter(t => t.includes('"Inspector.detached"') && !t.includes('"sessionId"')))),
        refused,
      };
    }),

  crash: async ({ endpoint }) =>
    withClients(endpoint, 1, async main => {
      const { targetId, sessionId } = await main.page();
      const page = await Raw.open(pageUrl(endpoint, targetId));
      await page.ask('Inspector.enable');
      await main.ask('Inspector.enable', {}, sessionId);
      page.send('{"id":1,"method":"Page.crash"}');
      await page.event('Inspector.targetCrashed');
      await main.event('Inspector.targetCrashed');
      const open = !page.closed;
      await page.close();
      await main.ask('Target.closeTarget', { targetId });
      return { open };
    }),

  // what a client has set up ends with its socket, in whatever way that ends
  leaving: async ({ endpoint, site }) => {
    const seen = {};
    for (const [way, leave] of Object.entries({
      close: raw => raw.close(),
      'close with a code': raw => raw.close(4000, 'bye'),
      drop: async raw => { raw.socket.terminate(); await raw.until(() => raw.closed, 'close'); },
      'binary frame': async raw => { raw.socket.send(Buffer.from('{}'), { binary: true }); await raw.until(() => raw.closed, 'close'); },
    })) {
      seen[way] = await withClients(endpoint, 2, async (a, b) => {
        const saw = {};
        const { targetId, sessionId } = await b.page(`${site}/second.html`);
        const mine = (await a.ask('Target.attachToTarget', { targetId, flatten: true })).sessionId;
        await eventually(async () => (await b.evaluate('document.title', sessionId)) === 'Second page', 'the page');
        const width = await b.evaluate('innerWidth', sessionId);
        const agent = await b.evaluate('navigator.userAgent', sessionId);

        // emulation
        await a.ask('Emulation.setDeviceMetricsOverride', { width: 333, height: 444, deviceScaleFactor: 1, mobile: false }, mine);
        await a.ask('Emulation.setUserAgentOverride', { userAgent: 'Leaving/1' }, mine);
        saw.emulated = [await b.evaluate('innerWidth', sessionId), await b.evaluate('navigator.userAgent', sessionId)];
        // a context that goes with its client, and one that stays
        const context = (await a.ask('Target.createBrowserContext', { disposeOnDetach: true })).browserContextId;
        const kept = (await a.ask('Target.createBrowserContext', {})).browserContextId;
        const inContext = (await a.ask('Target.createTarget', { url: 'about:blank', browserContextId: context })).targetId;
        await a.ask('Target.createTarget', { url: 'about:blank', browserContextId: kept });
        // tracing
        await a.ask('Tracing.start', { categories: 'devtools.timeline' });
        saw.traced = (await b.call('Tracing.start', { categories: 'devtools.timeline' })).error ?? 'started';
        // a worker and a foreign frame that wait for their debugger
        const paused = [];
        for (const [path, type] of [['worker.html', 'worker'], ['frames.html', 'iframe']]) {
          const page = await b.page();
          const session = (await a.ask('Target.attachToTarget', { targetId: page.targetId, flatten: true })).sessionId;
          await a.ask('Target.setAutoAttach', WAITING, session);
          b.send(JSON.stringify({ id: 48, method: 'Page.navigate', params: { url: `${site}/${path}` }, sessionId: page.sessionId }));
          const child = await a.event('Target.attachedToTarget', (p, m) => m.sessionId === session && p.targetInfo.type === type);
          paused.push({ ...page, waiting: child.params.waitingForDebugger });
        }
        b.send(JSON.stringify({ id: 49, method: 'Runtime.evaluate', params: { expression: 'answer', awaitPromise: true }, sessionId: paused[0].sessionId }));
        // a request that waits for an answer
        await a.ask('Fetch.enable', {}, mine);
        b.send(JSON.stringify({ id: 50, method: 'Runtime.evaluate', params: { expression: `fetch('/echo').then(r => r.status)`, awaitPromise: true }, sessionId }));
        await a.event('Fetch.requestPaused');
        saw.waiting = !b.transcript.some(t => /^\{"id":(49|50),/.test(t));
        const from = b.transcript.length;

        await leave(a);

        saw.fetched = (await b.message(m => m.id === 50, 'the request goes on', 0)).result.result.value;
        saw.width = await eventually(async () => (await b.evaluate('innerWidth', sessionId)) === width, 'the width is back');
        saw.agent = await eventually(async () => (await b.evaluate('navigator.userAgent', sessionId)) === agent, 'the agent is back');
        saw.paused = paused.map(p => p.waiting);
        saw.answered = (await b.message(m => m.id === 49, 'the worker goes on', 0)).result.result.value;
        saw.framed = await eventually(
          async () => (await b.ask('Target.getTargets')).targetInfos.some(t => t.type === 'iframe' && t.url.endsWith('/inner.html')),
          'the frame goes on',
        );
        saw.disposed = await eventually(
          async () => !(await b.ask('Target.getBrowserContexts')).browserContextIds.includes(context) &&
            !(await b.ask('Target.getTargets')).targetInfos.some(t => t.targetId === inContext),
          'its context is gone',
        );
        saw.kept = (await b.ask('Target.getBrowserContexts')).browserContextIds.includes(kept);
        saw.tracing = await eventually(async () => !(await b.call('Tracing.start', { categories: 'devtools.timeline' })).error, 'tracing is free');
        await b.ask('Tracing.end');
        await b.event('Tracing.tracingComplete', () => true, from);
        saw.noticed = b.transcript.slice(from).filter(t => /"method":"(Target\.detached|Inspector\.)/.test(t)).length;
        await b.ask('Target.disposeBrowserContext', { browserContextId: kept });
        for (const id of [...paused.map(p => p.targetId), targetId]) await b.ask('Target.closeTarget', { targetId: id });
        return saw;
      });
    }
    return seen;
  },

  // a command that is still being carried out when its sender leaves
  'leaving with work in flight': async ({ endpoint }) =>
    withClients(endpoint, 1, async b => {
      for (let round = 0; round < 20; round++) {
        const a = await Raw.open(endpoint);
        for (let id = 1; id <= 20; id++) a.send(JSON.stringify({ id, method: id % 2 ? 'Target.attachToBrowserTarget' : 'Target.createBrowserContext', params: id % 2 ? {} : { disposeOnDetach: true } }));
        if (round % 3 === 0) await a.message(m => m.id === round % 20 + 1, 'an answer');
        if (round % 2) a.socket.terminate();
        else await a.close();
      }
      const contexts = await eventually(async () => (await b.ask('Target.getBrowserContexts')).browserContextIds.length === 0, 'no context is left');
      return { contexts };
    }),

  'a dialog stays': async ({ endpoint }) =>
    withClients(endpoint, 2, async (a, b) => {
      const { targetId, sessionId } = await b.page();
      const mine = (await a.ask('Target.attachToTarget', { targetId, flatten: true })).sessionId;
      for (const [raw, session] of [[a, mine], [b, sessionId]]) await raw.ask('Page.enable', {}, session);
      b.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'confirm("still there?")' }, sessionId }));
      await a.event('Page.javascriptDialogOpening');
      await a.close();
      const closed = b.transcript.some(t => t.includes('Page.javascriptDialogClosed'));
      const handled = (await b.call('Page.handleJavaScriptDialog', { accept: true }, sessionId)).error ?? 'handled';
      const answer = (await b.message(m => m.id === 1, 'the answer', 0)).result.result.value;
      await b.ask('Target.closeTarget', { targetId });
      return { closed, handled, answer };
    }),

  frames: async ({ endpoint }) => {
    const message = '{"id":1,"method":"Target.setDiscoverTargets","params":{"discover":false}}';
    const seen = {};
    {
      const raw = await Raw.open(endpoint);
      const pongs = [];
      raw.socket.on('pong', data => { pongs.push(data.toString()); raw.wake(); });
      raw.socket.send(message.slice(0, 5), { fin: false, binary: false });
      raw.socket.ping('between');
      for (const letter of message.slice(5, -1)) raw.socket.send(letter, { fin: false });
      raw.socket.send('}', { fin: true });
      await raw.until(() => raw.transcript.length && pongs.length, 'answer and pong');
      raw.socket.ping('x'.repeat(125));
      raw.socket.ping('');
      await raw.until(() => pongs.length === 3, 'pongs');
      seen.fragments = raw.transcript;
      seen.pongs = pongs.map(p => p.length);
      seen.extensions = raw.socket.extensions;
      seen.closed = (await raw.close(1000, 'bye')).code;
    }
    for (const [name, data] of Object.entries({ 'binary': [0x82, 0x82, 0, 0, 0, 0, 0x7b, 0x7d], 'reserved opcode': [0x83, 0x80, 0, 0, 0, 0], 'rsv bit': [0xc1, 0x80, 0, 0, 0, 0], 'not masked': [0x81, 0x02, 0x7b, 0x7d] })) {
      const raw = await Raw.open(endpoint);
      raw.socket._socket.write(Buffer.from(data));
      await raw.until(() => raw.closed, 'the end of the socket');
      seen[name] = [raw.transcript.length, 'ended'];
    }
    const main = await Raw.open(endpoint);
    const before = (await main.ask('Target.getTargets')).targetInfos.length;
    const raw = await Raw.open(endpoint);
    raw.send(Buffer.from('{"id":1,"method":"Target.createTarget","params":{"url":"about:blank"}}'), { binary: true });
    await raw.until(() => raw.closed, 'the end of the socket');
    seen['binary executes nothing'] = (await main.ask('Target.getTargets')).targetInfos.length === before;
    await main.close();
    return seen;
  },

  discovery: async ({ endpoint }) => {
    const names = new Names();
    const get = async (path, method = 'GET') => {
      const response = await fetch(http(endpoint, path), { method });
      const text = await response.text();
      let shape = text.length < 200 ? names.text(text) : `${text.length} characters`;
      try {
        const body = JSON.parse(text);
        const one = Array.isArray(body) ? body[0] : body;
        if (typeof one === 'object') shape = Object.keys(one);
      } catch { /* a text */ }
      return { status: response.status, type: response.headers.get('content-type'), shape, text };
    };
    const seen = {};
    for (const [path, method] of [
      ['json/version'], ['json/version/'], ['json'], ['json/list'], ['json/list/'], ['json/protocol'], ['json/version', 'POST'], ['json/version', 'PUT'],
      ['json/new'], ['json/new?about:blank', 'POST'], ['json/activate/NOPE'], ['json/close/NOPE'],
    ]) {
      const { status, type, shape } = await get(path, method);
      seen[`${method ?? 'GET'} ${path}`] = { status, type, shape };
    }
    const opened = [];
    for (const query of ['', '?about:blank', '?http%3A%2F%2Flocalhost%3A1%2Fx%3Fy%3Dz%23f', '?http://localhost:1/a%20b?c=d', '?nonsense', '?data:text/html,<p>x']) {
      const { status, type, text } = await get(`json/new${query}`, 'PUT');
      const made = JSON.parse(text);
      opened.push({ query, status, type, keys: Object.keys(made), kind: made.type, url: made.url, formatted: text.startsWith('{\n   "description": "",\n') && text.endsWith('\n}\n') });
      const activated = await get(`json/activate/${made.id}`);
      const raw = await Raw.open(made.webSocketDebuggerUrl);
      await raw.evaluate('1');
      const closed = await get(`json/close/${made.id}`);
      await raw.until(() => raw.closed, 'the page\'s socket ends');
      opened.at(-1).after = [activated.text, activated.status, closed.text, closed.status];
    }
    seen.opened = opened;
    const version = JSON.parse((await get('json/version')).text);
    const browser = await Raw.open(version.webSocketDebuggerUrl);
    seen['browser url works'] = /^(Headless)?Chrome/.test((await browser.ask('Browser.getVersion')).product);
    await browser.close();
    seen.version = { ...version, webSocketDebuggerUrl: 0 };
    const attempt = path => new Promise(done => {
      const socket = new WebSocket(beside(endpoint, path).href);
      socket.on('open', () => { socket.terminate(); done('open'); });
      socket.on('unexpected-response', (_, response) => { response.resume(); done(response.statusCode >= 400 ? 'refused' : 'odd'); });
      socket.on('error', () => {});
    });
    seen.refused = {};
    for (const path of ['devtools/page/NOPE', 'devtools/browser/NOPE', 'devtools', 'nope', 'json/version', 'json', 'cdp/nope', 'devtools/page/', 'devtools/page']) seen.refused[path] = await attempt(path);
    return seen;
  },

  close: async ({ endpoint }) => {
    const [a, b] = [await Raw.open(endpoint), await Raw.open(endpoint)];
    const from = a.transcript.length;
    a.send('{"id":1,"method":"Browser.close"}');
    for (const raw of [a, b]) await raw.until(() => raw.closed, 'the end of the socket');
    return { answered: a.transcript.slice(from).filter(t => t.startsWith('{"id":1,')) };
  },
});
