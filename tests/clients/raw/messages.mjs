// Messages: their grammar, their ids, their sizes and their number.
import assert from 'node:assert/strict';
import { Raw } from '../cdp.mjs';
import { cases, fill, mutants } from '../grammar.mjs';
import { eventually } from '../scenarios.mjs';
import { fence, only, pageUrl, told, withClients } from './tools.mjs';

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
    // a mutant may turn events on, which come in no fixed order
    const judged = told(only(answers));
    if (dropped) {
      judged.push('dropped');
      await now.open();
    }
    return judged;
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

export default {
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
      for (let n = 0; n < 3; n++) raw.send('{"id":6,"method":"Storage.getCookies"}');
      await raw.until(() => raw.transcript.slice(from).filter(t => t.startsWith('{"id":6,')).length === 3, 'three answers');
      const nested = (await raw.ask('Target.attachToBrowserTarget')).sessionId;
      from = raw.transcript.length;
      for (let n = 0; n < 3; n++) raw.send(JSON.stringify({ id: 6, method: 'Storage.getCookies', sessionId: nested }));
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
};
