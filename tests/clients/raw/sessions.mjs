// Sessions: what is attached, in which order it is told, and whose it is.
import assert from 'node:assert/strict';
import { Names, Raw } from '../cdp.mjs';
import { eventually } from '../scenarios.mjs';
import { QUIET, WAITING, only, pageUrl, told, withClients } from './tools.mjs';

export default {
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
      for (const id of [1, 2]) await raw.message(m => m.id === id, 'the answer', from);
      // which answer comes first is left open
      seen['used right after its detach'] = told(only(raw.transcript.slice(from), ...events), names).sort();
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
        'unknown session': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"},"sessionId":"x"}',
        'a flat session': JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: '1' }, sessionId: flat }),
        'empty session': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"},"sessionId":""}',
        'deep': `{"id":1,"method":"Runtime.evaluate","params":{"expression":"1","x":${'['.repeat(200)}${']'.repeat(200)}}}`,
        'lone surrogate': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"\'\\\\ud800\'"}}',
        'params first': '{"params":{"expression":"2+2"},"method":"Runtime.evaluate","id":1}',
        'escapes': '{"id":1,"m\\u0065thod":"Runtime.\\u0065valuate","params":{"expression":"3+3"}}',
      };
      const seen = {};
      for (const [name, message] of Object.entries(inner)) {
        const from = raw.transcript.length;
        await raw.ask('Target.sendMessageToTarget', { sessionId, message });
        await raw.event('Target.receivedMessageFromTarget', () => true, from);
        seen[name] = told(raw.transcript.slice(from).filter(t => !t.startsWith('{"id"')), names);
      }
      // Chrome answers these with an error in an event; the guard does not let them get there
      const odd = {
        'not JSON': 'nope',
        empty: '',
        'empty object': '{}',
        array: '[]',
        'no method': '{"id":1}',
        'unknown method': '{"id":1,"method":"Foo.bar"}',
        'session null': '{"id":1,"method":"Runtime.evaluate","params":{"expression":"1"},"sessionId":null}',
        'duplicate id': '{"id":1,"id":2,"method":"x"}',
        'raw NUL': '{"id":1,"method":"Foo.\u0000"}',
        'NUL splits': '{"id":1,"method":"Foo.bar"}\u0000{"id":2,"method":"Foo.bar"}',
      };
      for (const [name, message] of Object.entries(odd)) {
        const from = raw.transcript.length;
        const answer = await raw.call('Target.sendMessageToTarget', { sessionId, message });
        const told = answer.error ?? JSON.parse((await raw.event('Target.receivedMessageFromTarget', () => true, from)).params.message).error;
        seen[name] = told && 'refused';
      }
      const message = '{"id":8,"method":"Runtime.evaluate","params":{"expression":"1"}}';
      for (const [name, params] of Object.entries({
        'by target, two sessions': { targetId, message },
        'to a flat session': { sessionId: flat, message },
        'to an unknown session': { sessionId: 'nope', message },
        'to nothing': { message },
        'no message': { sessionId },
        'message not a string': { message: 5, sessionId },
      })) {
        seen[name] = (await raw.call('Target.sendMessageToTarget', params)).error ?? 'ok';
      }
      // legacy in legacy: a browser session's page session, without flatten
      await raw.ask('Target.detachFromTarget', { sessionId: flat });
      const only = await raw.call('Target.sendMessageToTarget', { targetId, message: '{"id":9,"method":"Page.enable"}' });
      seen['by target, one session'] = only.error ?? 'ok';
      const nested = (await raw.ask('Target.attachToBrowserTarget')).sessionId;
      const inside = (await raw.ask('Target.attachToTarget', { targetId }, nested)).sessionId;
      const from = raw.transcript.length;
      await raw.ask('Target.sendMessageToTarget', { sessionId: inside, message: '{"id":1,"method":"Runtime.evaluate","params":{"expression":"6*7"}}' }, nested);
      const event = await raw.event('Target.receivedMessageFromTarget', p => p.sessionId === inside, from);
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
};
