// Pages, discovery, WebSocket frames, and the end of a browser.
import WebSocket from 'ws';
import { Names, Raw, beside, http } from '../cdp.mjs';
import { pageUrl, told, unknown, withClients } from './tools.mjs';

/** The DevTools frontend is on another host, and cannot come back here with a token. */
const keys = body => Object.keys(body).filter(key => key !== 'devtoolsFrontendUrl');

export default {
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
        answers.push([method, unknown(JSON.stringify(answer.error ?? 'ok')), Object.keys(JSON.parse(a.transcript[answer.at]))]);
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
        if (typeof one === 'object') shape = keys(one);
      } catch { /* a text */ }
      return { status: response.status, type: response.headers.get('content-type'), shape, text };
    };
    const seen = {};
    for (const [path, method] of [
      ['json/version'], ['json/version/'], ['json'], ['json/list'], ['json/list/'], ['json/protocol'], ['json/version', 'POST'], ['json/version', 'PUT'],
      ['json/new'], ['json/new?about:blank', 'POST'], ['json/activate/NOPE'], ['json/close/NOPE'],
    ]) {
      const { status, type, shape } = await get(path, method);
      // Chrome refuses with a text, the API with a problem document
      seen[`${method ?? 'GET'} ${path}`] = status < 400 ? { status, type, shape } : { status };
    }
    const opened = [];
    for (const query of ['', '?about:blank', '?http%3A%2F%2Flocalhost%3A1%2Fx%3Fy%3Dz%23f', '?http://localhost:1/a%20b?c=d', '?nonsense', '?data:text/html,<p>x']) {
      const { status, type, text } = await get(`json/new${query}`, 'PUT');
      const made = JSON.parse(text);
      opened.push({ query, status, type, keys: keys(made), kind: made.type, url: made.url, formatted: text.startsWith('{\n   "description": "",\n') && text.endsWith('\n}\n') });
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
};
