// What a client has set up ends with its socket.
import { Raw } from '../cdp.mjs';
import { eventually } from '../scenarios.mjs';
import { WAITING, withClients } from './tools.mjs';

export default {
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
};
