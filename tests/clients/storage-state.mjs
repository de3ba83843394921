// Logins that move between browsers as storage states, and clients that look on meanwhile.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { eventually, run } from './scenarios.mjs';

const connect = endpoint => chromium.connectOverCDP(endpoint, { timeout: 30_000 });

/** Connects with Playwright, and disconnects afterwards. */
const connected = steps => async place => {
  const browser = await connect(place.endpoint);
  try {
    return await steps({ browser, ...place });
  } finally {
    await browser.close();
  }
};

const signIn = async (page, site) => {
  await page.goto(`${site}/login.html`);
  await page.click('#sign-in');
  await page.waitForFunction(() => document.title.startsWith('signed'));
  assert.equal(await page.title(), 'signed in as Zoë');
};

/** What the account page says at its first navigation. */
const visit = async (page, site) => {
  await page.goto(`${site}/account`);
  await page.waitForFunction(() => document.title.startsWith('signed'));
  return page.title();
};

const put = (site, name, value) =>
  fetch(`${site}/shelf/${name}`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) });
const shelf = async (site, name) => {
  const answer = await fetch(`${site}/shelf/${name}`);
  return answer.ok ? answer.json() : undefined;
};

await run({
  /** A login in a context of Playwright's, saved by Playwright onto the shelf. */
  save: connected(async ({ browser, site }) => {
    const context = await browser.newContext();
    await signIn(await context.newPage(), site);
    await put(site, 'state', await context.storageState({ indexedDB: true }));
    await context.close();
    return { saved: true };
  }),

  /** The state on the shelf in a context of Playwright's. */
  load: connected(async ({ browser, site }) => {
    const context = await browser.newContext({ storageState: await shelf(site, 'state') });
    const title = await visit(await context.newPage(), site);
    await context.close();
    return { title };
  }),

  /** A login in the default context. */
  'sign in': connected(async ({ browser, site }) => {
    await signIn(browser.contexts()[0].pages()[0], site);
    return { signedIn: true };
  }),

  /** The first navigation of the default context. */
  visit: connected(async ({ browser, site }) => ({ title: await visit(browser.contexts()[0].pages()[0], site) })),

  /** Says that it looks, and reports what it saw once the test says that it is done. */
  look: connected(async ({ browser, site, endpoint }) => {
    const other = await puppeteer.connect({ browserWSEndpoint: endpoint, defaultViewport: null });
    const seen = [];
    const [context] = browser.contexts();
    const pages = () => context.pages().map(page => page.url());
    const before = pages();
    context.on('page', page => seen.push(`page ${page.url()}`));
    for (const event of ['targetcreated', 'targetchanged', 'targetdestroyed']) {
      other.on(event, target => seen.push(`${event} ${target.type()} ${target.url()}`));
    }
    await put(site, 'looking', true);
    await eventually(async () => {
      // a busy client, meanwhile
      await Promise.all(Array.from({ length: 50 }, () => context.pages()[0].evaluate(() => 1)));
      return (await shelf(site, 'done')) === true;
    }, 'the test is done', 50_000);
    assert.deepEqual(seen, []);
    assert.deepEqual(pages(), before);
    assert.equal((await other.pages()).length, before.length);
    // a page of one's own is still noticed by the other
    const made = new Promise(resolve => context.once('page', resolve));
    const page = await other.newPage();
    await made;
    await page.close();
    await other.disconnect();
    return { pages: before.length };
  }),
});
