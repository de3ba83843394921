// One session between the two images: image.mjs SERVER PICTURE, with the key in VENTUS_API_KEY.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import puppeteer from 'puppeteer-core';
import { png } from './scenarios.mjs';

const [server, picture] = process.argv.slice(2);

// What is written in each, and the font that has to draw it.
const TEXTS = {
  latin: ['Liberation Sans', 'font-family: Arial', 'Zażółć gęślą jaźń'],
  serif: ['Liberation Serif', 'font-family: "Times New Roman"', 'The quick brown fox'],
  mono: ['Liberation Mono', 'font-family: "Courier New"', 'fn main() {}'],
  japanese: ['Noto Sans CJK JP', '', '東京都千代田区ひらがなカタカナ'],
  chinese: ['Noto Sans CJK SC', '', '简体中文网页'],
  korean: ['Noto Sans CJK KR', '', '한국어 문서'],
  emoji: ['Noto Color Emoji', '', '😀🚀🦀🎉'],
};
const LANGUAGES = { japanese: 'ja', chinese: 'zh-CN', korean: 'ko' };
const HTML = `<!doctype html><meta charset="utf-8"><title>Fonts</title>
  <body style="font-size: 32px; margin: 24px">${Object.entries(TEXTS)
    .map(([id, [, style, text]]) => `<p id="${id}" lang="${LANGUAGES[id] ?? 'en'}" style='${style}'>${text}</p>`)
    .join('')}`;

async function api(method, path, body) {
  const response = await fetch(`${server}/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${process.env.VENTUS_API_KEY}`,
      'content-type': 'application/json',
      'idempotency-key': randomUUID(),
    },
    body: body && JSON.stringify(body),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
  return response.status === 204 ? null : response.json();
}

/** The fonts that the browser drew an element with. */
async function fonts(cdp, id) {
  const { root } = await cdp.send('DOM.getDocument');
  const { nodeId } = await cdp.send('DOM.querySelector', { nodeId: root.nodeId, selector: `#${id}` });
  const { fonts } = await cdp.send('CSS.getPlatformFontsForNode', { nodeId });
  return fonts.map(font => font.familyName);
}

const session = await api('POST', '/sessions', { labels: { 'made-by': 'image-test' } });
try {
  const browser = await puppeteer.connect({ browserWSEndpoint: session.connect_url, defaultViewport: null });
  const page = await browser.newPage();
  await page.goto(`data:text/html;base64,${Buffer.from(HTML).toString('base64')}`);
  assert.equal(await page.title(), 'Fonts');
  const cdp = await page.createCDPSession();
  await cdp.send('DOM.enable');
  await cdp.send('CSS.enable');
  for (const [id, [font]] of Object.entries(TEXTS)) assert.deepEqual(await fonts(cdp, id), [font], id);
  const bytes = await page.screenshot();
  assert.ok(png(bytes).width > 0);
  await writeFile(picture, bytes);
  // Nor does the gateway let it pass here: metadata of clouds is not for pages.
  await assert.rejects(page.goto('http://169.254.169.254/'), /ERR_SOCKS_CONNECTION_FAILED/);
  await browser.disconnect();
} finally {
  await api('DELETE', `/sessions/${session.id}`);
}
