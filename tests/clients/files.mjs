// Files as the libraries give and get them when the browser's disk is elsewhere.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { run } from './scenarios.mjs';

const INPUT = `document.body.innerHTML = '<input type=file>'`;
const TEXT = `document.querySelector('input').files[0].text()`;
const download = (name, text) =>
  `{ const a = document.createElement('a'); a.download = '${name}'; a.href = 'data:text/plain,${text}'; a.click() }`;

await run({
  playwright: async ({ endpoint }) => {
    const browser = await chromium.connectOverCDP(endpoint);
    const page = await (await browser.newContext()).newPage();
    await page.evaluate(INPUT);
    // content of its own goes along
    await page.setInputFiles('input', { name: 'own.txt', mimeType: 'text/plain', buffer: Buffer.from('own') });
    assert.equal(await page.evaluate(TEXT), 'own');
    const [got] = await Promise.all([page.waitForEvent('download'), page.evaluate(download('playwright.txt', 'one'))]);
    assert.equal(got.suggestedFilename(), 'playwright.txt');
    assert.equal(await got.failure(), null);
    // it looks on its own disk, where nothing is
    const saved = await got.saveAs('/tmp/ventus-not-there.txt').then(() => 'saved', error => error.message);
    await browser.close();
    return { saved: /ENOENT/.test(saved) ? 'not on this disk' : saved };
  },

  puppeteer: async ({ endpoint }) => {
    const browser = await puppeteer.connect({ browserWSEndpoint: endpoint, defaultViewport: null });
    const page = await browser.newPage();
    await page.evaluate(INPUT);
    const input = await page.$('input');
    // what was put, by its name
    await input.uploadFile('uploads/put.txt');
    assert.equal(await page.evaluate(TEXT), 'put');
    const session = await page.createCDPSession();
    await session.send('Runtime.evaluate', { expression: download('puppeteer.txt', 'two'), userGesture: true });
    await browser.disconnect();
    return null;
  },
});
