// What scripts are for: connect, log in, read a table page by page, take a screenshot, leave.
// For each line of stdin, {"endpoint", "site"}, does it once, and prints how many milliseconds
// each part took. One process for all, so that the client is warm for everybody.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { png } from './scenarios.mjs';

const PAGES = 10;

/** How the two clients say the same. */
const clients = {
  puppeteer: {
    connect: endpoint => puppeteer.connect({ browserWSEndpoint: endpoint, defaultViewport: null }),
    context: browser => browser.createBrowserContext(),
    follow: (page, link) => Promise.all([page.waitForNavigation(), page.click(link)]),
    until: (page, condition) => page.waitForFunction(condition),
    cells: page => page.$$eval('#rows td', cells => cells.map(cell => cell.textContent)),
    leave: browser => browser.disconnect(),
  },
  playwright: {
    connect: endpoint => chromium.connectOverCDP(endpoint),
    context: browser => browser.newContext(),
    follow: (page, link) => Promise.all([page.waitForEvent('load'), page.click(link)]),
    until: (page, condition) => page.waitForFunction(condition),
    cells: page => page.$$eval('#rows td', cells => cells.map(cell => cell.textContent)),
    leave: browser => browser.close(),
  },
};

async function work(client, { endpoint, site }) {
  const begun = performance.now();
  let last = begun;
  const parts = {};
  const done = part => {
    const now = performance.now();
    parts[part] = now - last;
    last = now;
  };

  const browser = await client.connect(endpoint);
  const context = await client.context(browser);
  const page = await context.newPage();
  done('connect');

  await page.goto(`${site}/login.html`);
  await client.follow(page, '#sign-in');
  await client.until(page, () => document.title.startsWith('signed '));
  assert.equal(await page.title(), 'signed in as Zoë');
  done('log in');

  await page.goto(`${site}/table.html`);
  for (let n = 1; n <= PAGES; n++) {
    const cells = await client.cells(page);
    assert.deepEqual([cells.length, cells[0]], [100, String((n - 1) * 25 + 1)]);
    if (n < PAGES) await client.follow(page, '#next');
  }
  done('table of 10 pages');

  assert.ok(png(await page.screenshot()).width >= 500);
  done('screenshot');

  await context.close();
  await client.leave(browser);
  done('leave');
  parts.whole = last - begun;
  return parts;
}

const client = clients[process.argv[2]];
assert.ok(client, `puppeteer or playwright, not ${process.argv[2]}`);
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await work(client, JSON.parse(line))));
}
