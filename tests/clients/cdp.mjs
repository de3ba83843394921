// A WebSocket that speaks raw CDP: sends bytes as they are, records what comes back.
import WebSocket from 'ws';

/** How long a step may take before the scenario fails. */
export const DEADLINE_MS = 20_000;

export class Raw {
  /** @param {string} url */
  static async open(url, options = {}) {
    const raw = new Raw();
    raw.socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: 256 << 20, ...options });
    raw.transcript = [];
    raw.closed = null;
    raw.watchers = new Set();
    raw.nextId = 1_000_000;
    raw.socket.on('message', (data, binary) => {
      raw.transcript.push(binary ? { binary: data.length } : data.toString());
      raw.wake();
    });
    raw.socket.on('close', (code, reason) => {
      raw.closed = { code, reason: reason.toString() };
      raw.wake();
    });
    raw.socket.on('error', () => {});
    await new Promise((done, failed) => {
      raw.socket.once('open', done);
      raw.socket.once('unexpected-response', (_, response) => failed(new Error(`refused with ${response.statusCode}`)));
      raw.socket.once('error', failed);
    });
    return raw;
  }

  wake() {
    for (const watcher of [...this.watchers]) watcher();
  }

  /** Sends text (a string or raw bytes in a text frame) as it is. */
  send(data, options = { binary: false }) {
    this.socket.send(data, options);
  }

  /** Waits until `condition()` answers something truthy, and returns that. */
  until(condition, what = 'a condition', ms = DEADLINE_MS) {
    return new Promise((done, failed) => {
      const check = () => {
        let value;
        try {
          value = condition();
        } catch (error) {
          stop();
          return failed(error);
        }
        if (value) {
          stop();
          done(value);
        }
      };
      const timer = setTimeout(() => {
        stop();
        const last = this.transcript.slice(-3).map(m => String(m).slice(0, 300));
        failed(new Error(`no ${what} in ${ms} ms; closed: ${JSON.stringify(this.closed)}; last: ${last.join(' | ')}`));
      }, ms);
      const stop = () => {
        clearTimeout(timer);
        this.watchers.delete(check);
      };
      this.watchers.add(check);
      check();
    });
  }

  /** The first message from `from` on that `matches`, as an object with its place in `at`. */
  message(matches, what = 'message', from = 0, ms = DEADLINE_MS) {
    let next = from;
    return this.until(
      () => {
        while (next < this.transcript.length) {
          const message = parse(this.transcript[next]);
          if (message && matches(message)) return { ...message, at: next };
          next++;
        }
        if (this.closed) throw new Error(`closed (${JSON.stringify(this.closed)}) while waiting for ${what}`);
        return null;
      },
      what,
      ms,
    );
  }

  event(method, matches = () => true, from = 0) {
    return this.message(m => m.method === method && matches(m.params, m), method, from);
  }

  /** Sends a command and returns the whole answer. */
  async call(method, params = {}, sessionId = undefined, id = this.nextId++) {
    const from = this.transcript.length;
    this.send(JSON.stringify(sessionId === undefined ? { id, method, params } : { id, method, params, sessionId }));
    // a refusal may come without the session that it was sent to
    const answers = m => m.id === id && (m.sessionId === sessionId || (m.error && m.sessionId === undefined));
    return this.message(answers, `answer to ${method}`, from);
  }

  /** Sends a command and returns its result; an error answer is thrown. */
  async ask(method, params, sessionId) {
    const answer = await this.call(method, params, sessionId);
    if (answer.error) throw new Error(`${method}: ${JSON.stringify(answer.error)}`);
    return answer.result;
  }

  async evaluate(expression, sessionId) {
    const { result, exceptionDetails } = await this.ask(
      'Runtime.evaluate',
      { expression, returnByValue: true, awaitPromise: true },
      sessionId,
    );
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  /** Opens a page and attaches to it; answers `{targetId, sessionId}`. */
  async page(url = 'about:blank', extra = {}) {
    const { targetId } = await this.ask('Target.createTarget', { url, ...extra });
    const { sessionId } = await this.ask('Target.attachToTarget', { targetId, flatten: true });
    return { targetId, sessionId };
  }

  async close(code = 1000, reason = '') {
    this.socket.close(code, reason);
    await this.until(() => this.closed, 'close');
    return this.closed;
  }
}

function parse(text) {
  if (typeof text !== 'string') return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The URL of `path` beside a browser endpoint: Chrome's own port, or the session's prefix. */
export function beside(endpoint, path) {
  const url = new URL(endpoint);
  const prefix = url.pathname.startsWith('/v1/') ? url.pathname : '';
  const [pathname, ...query] = path.split('?');
  url.pathname = `${prefix}/${pathname}`;
  // Chrome takes what follows the question mark as it is; a token comes after it
  if (query.length) url.search = [query.join('?'), url.search.slice(1)].filter(Boolean).join('&');
  return url;
}

export function http(endpoint, path) {
  const url = beside(endpoint, path);
  url.protocol = url.protocol === 'wss:' ? 'https:' : 'http:';
  return url;
}

/** Replaces what differs from run to run by a name that tells only which one it is. */
export class Names {
  constructor() {
    this.known = new Map();
  }

  name(kind, id) {
    if (typeof id !== 'string' || id === '') return id;
    if (!this.known.has(id)) this.known.set(id, `<${kind}${[...this.known.values()].filter(n => n.startsWith(`<${kind}`)).length}>`);
    return this.known.get(id);
  }

  /** Names every 32-digit hexadecimal id in a text, in order of appearance. */
  text(text) {
    return text.replace(/[0-9A-F]{32}/g, id => this.name('id', id));
  }
}
