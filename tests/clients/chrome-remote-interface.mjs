// chrome-remote-interface: by page URL, by browser URL, and by host and port discovery.
import assert from 'node:assert/strict';
import CDP from 'chrome-remote-interface';
import { beside, http } from './cdp.mjs';
import { run } from './scenarios.mjs';

/** The DevTools frontend is on another host, and cannot come back here with a token. */
const keys = body => Object.keys(body).filter(key => key !== 'devtoolsFrontendUrl');

async function pages(endpoint) {
  const response = await fetch(http(endpoint, 'json/list'));
  assert.equal(response.status, 200);
  return response.json();
}

/** The place of a server, and the token added to the paths of its discovery where there is one. */
function hostAndPort(endpoint) {
  const url = new URL(endpoint);
  const token = url.searchParams.get('token');
  const withToken = path => `${path}${path.includes('?') ? '&' : '?'}token=${token}`;
  return {
    host: url.hostname,
    port: Number(url.port),
    alterPath: path => (token && path.startsWith('/json') ? withToken(path) : path),
  };
}

async function drive(client, site) {
  const { Page, Runtime } = client;
  await Page.enable();
  const loaded = Page.loadEventFired();
  await Page.navigate({ url: `${site}/second.html` });
  await loaded;
  const { result } = await Runtime.evaluate({ expression: 'document.title' });
  // Chrome says that it was not found, the guard that nobody has reviewed it
  const unknown = await client.send('Nope.nope').then(() => 'carried out', () => 'refused');
  await client.close();
  assert.equal(result.value, 'Second page');
  return { title: result.value, unknown };
}

await run({
  'by page url': async ({ endpoint, site }) => {
    const page = (await pages(endpoint)).find(t => t.type === 'page');
    return drive(await CDP({ target: page.webSocketDebuggerUrl, local: true }), site);
  },

  'by made page': async ({ endpoint, site }) => {
    const response = await fetch(http(endpoint, 'json/new?about:blank'), { method: 'PUT' });
    const page = await response.json();
    const seen = await drive(await CDP({ target: page.webSocketDebuggerUrl, local: true }), site);
    const closed = await fetch(http(endpoint, `json/close/${page.id}`));
    return { ...seen, made: response.status, keys: keys(page), closed: [closed.status, await closed.text()] };
  },

  'by browser url': async ({ endpoint }) => {
    const client = await CDP({ target: endpoint, local: true });
    const { product } = await client.Browser.getVersion();
    const { targetInfos } = await client.Target.getTargets();
    await client.close();
    return { chrome: /^(Headless)?Chrome\//.test(product), pages: targetInfos.some(t => t.type === 'page') };
  },

  // `host` and `port`: the library asks `/json/version`, `/json/list` and `/json/protocol` itself
  'by host and port': async ({ endpoint, site }) => {
    const place = hostAndPort(endpoint);
    const version = await CDP.Version(place);
    const listed = await CDP.List(place);
    const { domains } = await CDP.Protocol(place);
    const client = await CDP({ ...place, target: list => list.find(t => t.type === 'page') });
    const seen = await drive(client, site);
    return { ...seen, version: Object.keys(version), listed: keys(listed[0]), domains: domains.length };
  },

  'open, activate and close': async ({ endpoint }) => {
    const place = hostAndPort(endpoint);
    const made = await CDP.New({ ...place, url: 'about:blank' });
    await CDP.Activate({ ...place, id: made.id });
    await CDP.Close({ ...place, id: made.id });
    // Chrome refuses with a text, the API with a problem document
    const unknown = await CDP.Activate({ ...place, id: 'NOPE' }).then(() => 'activated', () => 'refused');
    return { type: made.type, url: made.url, unknown };
  },
});
