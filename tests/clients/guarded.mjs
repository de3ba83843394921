// What the guard judges or refuses, as the libraries use it.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { run } from './scenarios.mjs';

/** Connects with one of the libraries, opens a page, and leaves again. */
const withPlaywright = steps => async ({ endpoint, site }) => {
  const browser = await chromium.connectOverCDP(endpoint);
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    const seen = await steps({ browser, context, page, site });
    await context.close();
    return seen;
  } finally {
    await browser.close();
  }
};
const withPuppeteer = steps => async ({ endpoint, site }) => {
  const browser = await puppeteer.connect({ browserWSEndpoint: endpoint, defaultViewport: null });
  try {
    const page = await browser.newPage();
    const seen = await steps({ browser, page, site });
    await page.close();
    return seen;
  } finally {
    await browser.disconnect();
  }
};

const DOWNLOAD = `const a = document.createElement('a'); a.download = 'a name.txt'; a.href = 'data:text/plain,here'; a.click()`;
const reason = promise => promise.then(() => 'carried out', error => error.message);

await run({
  'playwright coverage': withPlaywright(async ({ page, site }) => {
    await page.coverage.startJSCoverage({ reportAnonymousScripts: true });
    await page.coverage.startCSSCoverage();
    await page.goto(`${site}/index.html`);
    await page.addScriptTag({ content: 'globalThis.covered = () => 1; covered()' });
    assert.ok((await page.coverage.stopJSCoverage()).length > 0);
    await page.coverage.stopCSSCoverage();
  }),

  'playwright session': withPlaywright(async ({ browser, context, page }) => {
    const session = await context.newCDPSession(page);
    await session.send('Performance.enable');
    assert.ok((await session.send('Performance.getMetrics')).metrics.length > 0);
    assert.match(await reason(session.send('Page.navigate', { url: 'file:///etc/hostname' })), /refused by policy: url: /);
    const root = await browser.newBrowserCDPSession();
    assert.match(await reason(root.send('Browser.crash')), /refused by policy: process: /);
    assert.match((await root.send('Browser.getVersion')).product, /Chrome/);
    assert.equal(await page.evaluate('6 * 7'), 42);
  }),

  'playwright download': withPlaywright(async ({ page }) => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.evaluate(DOWNLOAD)]);
    assert.equal(download.suggestedFilename(), 'a name.txt');
    assert.equal(await download.failure(), null);
  }),

  'playwright refused': withPlaywright(async ({ page, site }) => {
    assert.match(await reason(page.goto('file:///etc/hostname')), /refused by policy: url: /);
    assert.match(await reason(page.goto('chrome://version')), /refused by policy: url: /);
    assert.match(await reason(page.goto('nonsense')), /Cannot navigate to invalid URL/);
    await page.goto(`${site}/upload.html`);
    // a file of the client's own disk, which the library reads and sends along
    await page.setInputFiles('#file', import.meta.filename);
    assert.equal(await page.evaluate(() => document.querySelector('#file').files[0].name), 'guarded.mjs');
  }),

  'puppeteer coverage': withPuppeteer(async ({ page, site }) => {
    await page.coverage.startJSCoverage({ reportAnonymousScripts: true });
    await page.coverage.startCSSCoverage();
    await page.goto(`${site}/index.html`);
    await page.addScriptTag({ content: 'globalThis.covered = () => 1; covered()' });
    assert.ok((await page.coverage.stopJSCoverage()).length > 0);
    await page.coverage.stopCSSCoverage();
    assert.ok((await page.metrics()).Nodes > 0);
  }),

  'puppeteer session': withPuppeteer(async ({ browser, page }) => {
    const session = await page.createCDPSession();
    assert.ok((await session.send('Accessibility.getFullAXTree')).nodes.length > 0);
    assert.match(await reason(session.send('Target.setRemoteLocations', { locations: [] })), /refused by policy: debugger: /);
    await browser.defaultBrowserContext().overridePermissions('https://example.com', ['geolocation']);
    const context = await browser.createBrowserContext({ downloadBehavior: { policy: 'allow', downloadPath: '/nowhere' } });
    await (await context.newPage()).goto('about:blank');
    await context.close();
  }),

  'puppeteer refused': withPuppeteer(async ({ browser, page, site }) => {
    assert.match(await reason(browser.installExtension('/tmp')), /refused by policy: extensions: /);
    assert.match(await reason(page.goto('view-source:file:///etc/hostname')), /refused by policy: url: /);
    await page.goto(`${site}/upload.html`);
    const input = await page.$('#file');
    assert.match(
      await reason(input.uploadFile('/etc/hostname')),
      /refused by policy: files: .*PUT \/v1\/sessions\/\{id\}\/uploads\/\{name\}/,
    );
    assert.match(await reason(page.screenshot({ clip: { x: 0, y: 0, width: 1e6, height: 1e6 } })), /refused by policy: size: /);
    await page.setViewport({ width: 1000, height: 800, deviceScaleFactor: 2 });
    await page.evaluate(() => (document.body.style.height = '6000px'));
    assert.ok((await page.screenshot({ fullPage: true })).length > 1000);
  }),
});
