// Puppeteer against a browser endpoint.
import assert from 'node:assert/strict';
import puppeteer from 'puppeteer-core';
import { echoed, eventually, png, run } from './scenarios.mjs';

const connect = endpoint => puppeteer.connect({ browserWSEndpoint: endpoint, defaultViewport: null, protocolTimeout: 50_000 });

/** Connects, opens a page, closes that page and disconnects afterwards. */
const onPage = steps => async ({ endpoint, site }) => {
  const browser = await connect(endpoint);
  try {
    const page = await browser.newPage();
    const seen = await steps({ browser, page, site, endpoint });
    await page.close();
    return seen;
  } finally {
    await browser.disconnect();
  }
};

await run({
  navigation: onPage(async ({ page, site }) => {
    const response = await page.goto(site);
    const first = { status: response.status(), title: await page.title(), url: page.url() === `${site}/` };
    await Promise.all([page.waitForNavigation(), page.click('#next')]);
    const second = await page.title();
    await page.goBack();
    const missing = await page.goto(`${site}/nothing-here`);
    const refused = await page.goto('http://127.0.0.1:1/').catch(error => error.message.split(' at ')[0]);
    assert.deepEqual([first.status, first.title, second, missing.status()], [200, 'Ventus test site', 'Second page', 404]);
    return { first, second, missing: missing.status(), refused };
  }),

  evaluate: onPage(async ({ page, site }) => {
    await page.goto(site);
    await page.click('#count');
    await page.type('#name', 'Zoë 😀');
    const seen = {
      sum: await page.evaluate((a, b) => a + b, 40, 2),
      promise: await page.evaluate(() => new Promise(done => setTimeout(() => done('later'), 20))),
      text: await page.$eval('h1', h => h.textContent),
      clicked: await page.$eval('#count', b => b.textContent),
      typed: await page.$eval('#name', i => i.value),
      nested: await page.evaluate(() => ({ a: [1, { b: null }], c: 'é\u0000\ud800x' })),
      back: await page.evaluate(text => [...text].map(c => c.codePointAt(0)), 'a\u0000\udc00b'),
      thrown: await page.evaluate(() => { throw new TypeError('on purpose'); }).catch(error => error.message),
    };
    assert.equal(seen.sum, 42);
    assert.deepEqual(seen.back, [97, 0, 0xdc00, 98]);
    return seen;
  }),

  screenshot: onPage(async ({ page, site }) => {
    await page.setViewport({ width: 640, height: 360 });
    await page.goto(site);
    const whole = png(await page.screenshot());
    const element = png(await (await page.$('#box')).screenshot());
    assert.deepEqual([whole.width, whole.height, whole.first], [640, 360, [255, 0, 0]]);
    assert.deepEqual([element.width, element.height], [100, 100]);
    return { whole, element };
  }),

  pdf: onPage(async ({ page, site }) => {
    await page.goto(site);
    const bytes = Buffer.from(await page.pdf({ format: 'A4' }));
    assert.equal(bytes.subarray(0, 5).toString(), '%PDF-');
    assert.match(bytes.subarray(-10).toString('latin1'), /%%EOF/);
    return { pages: bytes.toString('latin1').match(/\/Type\s*\/Page\b/g).length };
  }),

  interception: onPage(async ({ page, site }) => {
    await page.setRequestInterception(true);
    page.on('request', request => {
      const { pathname } = new URL(request.url());
      if (pathname === '/echo') request.continue({ headers: { ...request.headers(), 'x-ventus': 'changed' } });
      else if (pathname === '/made-up') request.respond({ status: 201, contentType: 'text/html', body: '<title>made up</title>' });
      else if (pathname === '/second.html') request.abort('accessdenied');
      else request.continue();
    });
    const changed = await page.goto(`${site}/echo`);
    const echo = echoed(await changed.text());
    const made = await page.goto(`${site}/made-up`);
    const title = await page.title();
    const aborted = await page.goto(`${site}/second.html`).catch(error => error.message.split(' at ')[0]);
    assert.deepEqual([echo.ventus, made.status(), title, aborted], ['changed', 201, 'made up', 'net::ERR_ACCESS_DENIED']);
    return { echo, made: made.status(), title, aborted };
  }),

  popup: onPage(async ({ page, site }) => {
    await page.goto(`${site}/popup.html`);
    const opened = new Promise(done => page.once('popup', done));
    await page.click('#open');
    const popup = await opened;
    await eventually(async () => (await popup.title()) === 'Second page', 'the popup has loaded');
    const seen = { title: await popup.title(), opener: await popup.evaluate(() => window.opener !== null) };
    await popup.close();
    await eventually(() => page.evaluate(() => window.opened.closed), 'the opener sees it closed');
    assert.equal(seen.opener, true);
    return seen;
  }),

  'foreign frame': onPage(async ({ browser, page, site }) => {
    await page.goto(`${site}/frames.html`);
    const frame = await eventually(() => page.frames().find(f => f.url().endsWith('/inner.html')), 'the inner frame');
    await frame.waitForSelector('#where');
    await frame.type('#field', 'typed inside');
    const cdp = await browser.target().createCDPSession();
    const { targetInfos } = await cdp.send('Target.getTargets');
    const outOfProcess = targetInfos.filter(t => t.type === 'iframe' && t.url === frame.url()).length;
    assert.equal(outOfProcess, 1, 'the frame is a target of its own');
    const fromWorker = await eventually(() => frame.evaluate(() => window.fromWorker), 'the worker in the frame');
    return {
      outOfProcess,
      where: await frame.$eval('#where', p => p.textContent),
      typed: await frame.$eval('#field', i => i.value),
      fromWorker,
      origins: new Set([new URL(page.url()).origin, new URL(frame.url()).origin]).size,
    };
  }),

  worker: onPage(async ({ page, site }) => {
    const created = new Promise(done => page.once('workercreated', done));
    await page.goto(`${site}/worker.html`);
    const worker = await created;
    const seen = {
      answer: await page.evaluate(() => window.answer),
      inside: await worker.evaluate(() => self.name2),
      path: new URL(worker.url()).pathname,
    };
    assert.deepEqual(seen, { answer: 42, inside: 'dedicated', path: '/worker.js' });
    return seen;
  }),

  'service worker': onPage(async ({ browser, page, site }) => {
    await page.goto(`${site}/service-worker.html`);
    const state = await page.evaluate(() => window.ready);
    const target = await browser.waitForTarget(t => t.type() === 'service_worker');
    const worker = await target.worker();
    const seen = {
      active: ['activating', 'activated'].includes(state),
      inside: await worker.evaluate(() => self.name2),
      made: await eventually(
        () => page.evaluate(() => navigator.serviceWorker.controller && fetch('/from-service-worker').then(r => r.text())),
        'the worker controls the page',
      ),
    };
    await page.evaluate(() => navigator.serviceWorker.getRegistration().then(r => r.unregister()));
    assert.equal(seen.made, 'made by the service worker');
    return seen;
  }),

  dialog: onPage(async ({ page, site }) => {
    await page.goto(site);
    const asked = [];
    page.on('dialog', dialog => {
      asked.push([dialog.type(), dialog.message(), dialog.defaultValue()]);
      return dialog.type() === 'prompt' ? dialog.accept('Ada') : dialog.dismiss();
    });
    const answers = await page.evaluate(() => [alert('hello'), confirm('sure?'), prompt('name?', 'nobody')]);
    return { asked, answers: answers.map(a => a ?? null) };
  }),

  console: onPage(async ({ page, site }) => {
    const said = [];
    const thrown = [];
    page.on('console', message => said.push([message.type(), message.text()]));
    page.on('pageerror', error => thrown.push(error.message));
    await page.goto(site);
    await page.evaluate(() => {
      console.log('one', 2, { three: 3 });
      console.warn('careful');
      console.error('bad');
      setTimeout(() => { throw new RangeError('uncaught'); }, 0);
      Promise.reject(new Error('unhandled'));
    });
    await eventually(() => thrown.length >= 2 && said.filter(s => s[1] !== '').length >= 3, 'messages and errors');
    const ours = said.filter(([, text]) => !text.includes('favicon'));
    assert.equal(ours.length >= 3, true);
    return { said: ours.slice(0, 3), thrown: thrown.sort() };
  }),

  tracing: onPage(async ({ page, site }) => {
    await page.tracing.start({ categories: ['devtools.timeline'], screenshots: false });
    await page.goto(site);
    const trace = JSON.parse(Buffer.from(await page.tracing.stop()).toString());
    // How many events there are depends on the frames drawn meanwhile; these are always there.
    const ofPage = trace.traceEvents.filter(event => JSON.stringify(event).includes(site)).map(event => event.name);
    for (const name of ['ResourceSendRequest', 'CommitLoad', 'ParseHTML']) assert.ok(ofPage.includes(name), `${name} in ${ofPage}`);
    return { navigated: trace.traceEvents.some(e => e.name === 'navigationStart' || e.name === 'FrameCommittedInBrowser' || e.name === 'CommitLoad') };
  }),

  contexts: async ({ endpoint, site }) => {
    const browser = await connect(endpoint);
    const [a, b] = [await browser.createBrowserContext(), await browser.createBrowserContext()];
    const [pa, pb] = [await a.newPage(), await b.newPage()];
    await Promise.all([pa.goto(site), pb.goto(site)]);
    await a.setCookie({ name: 'who', value: 'a', domain: new URL(site).hostname });
    await pb.evaluate(() => localStorage.setItem('who', 'b'));
    const seen = {
      a: [await pa.evaluate(() => document.cookie), await pa.evaluate(() => localStorage.getItem('who'))],
      b: [await pb.evaluate(() => document.cookie), await pb.evaluate(() => localStorage.getItem('who'))],
      before: browser.browserContexts().length,
    };
    await a.close();
    await b.close();
    seen.after = browser.browserContexts().length;
    await browser.disconnect();
    assert.deepEqual([seen.a, seen.b], [['who=a', null], ['', 'b']]);
    return seen;
  },

  'two clients': async ({ endpoint, site }) => {
    const clients = await Promise.all([connect(endpoint), connect(endpoint)]);
    const pages = await Promise.all(clients.map(c => c.newPage()));
    await Promise.all(pages.map((p, i) => p.goto(i ? `${site}/second.html` : site)));
    // both count their ids from 1, so nearly every id is in flight twice
    const answers = await Promise.all(
      pages.map((p, i) => Promise.all(Array.from({ length: 200 }, (_, n) => p.evaluate((i, n) => [i, n, document.title], i, n)))),
    );
    const right = answers.map((list, i) => list.every(([who, n, title], k) => who === i && n === k && title === (i ? 'Second page' : 'Ventus test site')));
    const sees = await eventually(async () => (await clients[1].pages()).some(p => p.url() === `${site}/`), 'a client sees the other one\'s page');
    await clients[0].disconnect();
    const after = await pages[1].title();
    await Promise.all((await clients[1].pages()).filter(p => p.url() !== 'about:blank').map(p => p.close()));
    await clients[1].disconnect();
    assert.deepEqual(right, [true, true]);
    return { right, sees, after };
  },

  reconnect: async ({ endpoint, site }) => {
    const first = await connect(endpoint);
    const page = await first.newPage();
    await page.goto(`${site}/second.html?kept`);
    await page.evaluate(() => { window.kept = { value: 42 }; });
    await first.disconnect();
    const second = await connect(endpoint);
    const again = (await second.pages()).find(p => p.url().endsWith('?kept'));
    const seen = { kept: await again.evaluate(() => window.kept), title: await again.title() };
    await again.close();
    await second.disconnect();
    assert.equal(seen.kept.value, 42);
    return seen;
  },

  'much at once': onPage(async ({ page }) => {
    const cdp = await page.createCDPSession();
    const answers = await Promise.all(
      Array.from({ length: 2000 }, (_, n) => cdp.send('Runtime.evaluate', { expression: `${n} * 2` })),
    );
    const argument = await page.evaluate(text => text.length, 'x'.repeat(20 << 20));
    const result = (await page.evaluate(() => 'x'.repeat(50 << 20))).length;
    assert.equal(answers.every((a, n) => a.result.value === n * 2), true);
    assert.deepEqual([argument, result], [20 << 20, 50 << 20]);
    return { answers: answers.length, argument, result };
  }),

  close: async ({ endpoint }) => {
    const browser = await connect(endpoint);
    const gone = new Promise(done => browser.once('disconnected', () => done(true)));
    await browser.close();
    return { gone: await gone };
  },
});
