// Contexts with a proxy of their own, as Playwright makes them. The proxies are on the shelf.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { run } from './scenarios.mjs';

/** Opens a page in a context with this proxy; answers what the site saw. */
const visit = async ({ endpoint, site }, proxy) => {
  const browser = await chromium.connectOverCDP(endpoint, { timeout: 30_000 });
  try {
    const context = await browser.newContext({ proxy, ignoreHTTPSErrors: true });
    const page = await context.newPage();
    await page.goto(`${site}/index.html`);
    const seen = await page.evaluate(() => fetch('/echo', { method: 'POST', body: 'x'.repeat(10_000) }).then(r => r.json()));
    await context.close();
    return seen;
  } finally {
    await browser.close();
  }
};

const proxies = async site => (await fetch(`${site}/shelf/proxies`)).json();

const through = kind => async place => {
  const seen = await visit(place, (await proxies(place.site))[kind]);
  assert.equal(seen.method, 'POST');
  assert.equal(seen.headers['content-length'], '10000');
  assert.ok(!Object.keys(seen.headers).some(name => name.startsWith('proxy')), JSON.stringify(seen.headers));
  return kind;
};

await run({
  'by HTTP with credentials': through('http'),
  'by HTTP in TLS with credentials': through('https'),
  'by SOCKS5': through('socks5'),
  'one after the other on one browser': async place => {
    for (let round = 0; round < 3; round++) await through('http')(place);
    return 'done';
  },
  'with the wrong password': async place => {
    // Of its own: this kind remembers whom it has let in once.
    const proxy = { ...(await proxies(place.site)).other, password: 'wrong' };
    const error = await visit(place, proxy).then(() => 'none', error => error.message);
    assert.match(error, /net::ERR_|407|not valid JSON/);
    return 'refused';
  },
});
