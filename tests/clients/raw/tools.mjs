// What the raw scenarios share.
import { Names, Raw, beside } from '../cdp.mjs';

export const QUIET = { discover: false };
export const WAITING = { autoAttach: true, waitForDebuggerOnStart: true, flatten: true };
export const fence = (id, extra = {}) => JSON.stringify({ id, method: 'Target.setDiscoverTargets', params: QUIET, ...extra });
export const pageUrl = (endpoint, target) => beside(endpoint, `devtools/page/${target}`).href;

/**
 * What Chrome and the guard say of a method that neither knows: the guard does not pass on what
 * nobody has reviewed, so it cannot leave the answer to Chrome.
 */
export const unknown = text =>
  text
    .replace(/"code":-32601,"message":"'(?:[^"\\]|\\.)*' wasn't found"/, '"unknown method"')
    .replace(/"code":-32000,"message":"refused by policy: unreviewed: [^"]*"/, '"unknown method"');

/** A message as it came, shortened, with its ids named. */
export function told(messages, names = new Names()) {
  return messages.map(text => {
    let named = unknown(names.text(String(text))).replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, id => names.name('uuid', id));
    // whether a new page has its title yet is a race inside Chrome
    named = named.replaceAll('"title":"about:blank"', '"title":""');
    return named.length > 600 ? `${named.slice(0, 300)}…${named.length}` : named;
  });
}

/** Only the messages that answer, and the named events: what else comes depends on timing. */
export const only = (messages, ...methods) =>
  messages.filter(text => /^\{"(id|error)"/.test(text) || methods.some(m => text.startsWith(`{"method":"${m}"`)));

export async function withClients(endpoint, count, steps) {
  const clients = [];
  for (let n = 0; n < count; n++) clients.push(await Raw.open(endpoint));
  try {
    return await steps(...clients);
  } finally {
    for (const client of clients) if (!client.closed) await client.close();
  }
}
