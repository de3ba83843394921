// Playwright (Node) against a browser endpoint.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chromium } from 'playwright-core';
import { echoed, eventually, png, run } from './scenarios.mjs';

const connect = endpoint => chromium.connectOverCDP(endpoint, { timeout: 30_000 });

/** Connects, opens a page in a context of its own, closes both afterwards. */
const onPage = (steps, options = {}) => async ({ endpoint, site }) => {
  const browser = await connect(endpoint);
  try {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    const seen = await steps({ browser, context, page, site, endpoint });
    await context.close();
    return seen;
  } finally {
    await browser.close();
  }
};

const reason = error => error.message.split('\n')[0].split(' at ')[0];

await run({
  navigation: onPage(async ({ page, site }) => {
    const response = await page.goto(site);
    const first = { status: response.status(), title: await page.title(), type: response.headers()['content-type'] };
    await page.click('#next');
    await page.waitForURL('**/second.html');
    const second = await page.title();
    await page.goBack({ waitUntil: 'commit' });
    const missing = await page.goto(`${site}/nothing-here`);
    const refused = await page.goto('http://127.0.0.1:1/').catch(reason);
    assert.deepEqual([first.status, first.title, second, missing.status()], [200, 'Ventus test site', 'Second page', 404]);
    return { first, second, missing: missing.status(), refused };
  }),

  evaluate: onPage(async ({ page, site }) => {
    await page.goto(site);
    await page.click('#count');
    await page.fill('#name', 'Zoë 😀');
    const seen = {
      sum: await page.evaluate(([a, b]) => a + b, [40, 2]),
      promise: await page.evaluate(() => new Promise(done => setTimeout(() => done('later'), 20))),
      text: await page.textContent('h1'),
      clicked: await page.textContent('#count'),
      typed: await page.inputValue('#name'),
      nested: await page.evaluate(() => ({ a: [1, { b: null }], c: 'é\u0000x', d: new Date(0), e: NaN })).then(v => ({ ...v, e: String(v.e) })),
      thrown: await page.evaluate(() => { throw new TypeError('on purpose'); }).catch(reason),
      handle: await (await page.evaluateHandle(() => document.body)).evaluate(b => b.nodeName),
    };
    assert.equal(seen.sum, 42);
    return seen;
  }),

  screenshot: onPage(
    async ({ page, site }) => {
      await page.goto(site);
      const whole = png(await page.screenshot());
      const element = png(await page.locator('#box').screenshot());
      assert.deepEqual([whole.width, whole.height, whole.first], [640, 360, [255, 0, 0]]);
      assert.deepEqual([element.width, element.height], [100, 100]);
      return { whole, element };
    },
    { viewport: { width: 640, height: 360 } },
  ),

  pdf: onPage(async ({ page, site }) => {
    await page.goto(site);
    const bytes = await page.pdf({ format: 'A4' });
    assert.equal(bytes.subarray(0, 5).toString(), '%PDF-');
    return { pages: bytes.toString('latin1').match(/\/Type\s*\/Page\b/g).length };
  }),

  interception: onPage(async ({ page, site }) => {
    await page.route('**/echo', route => route.continue({ headers: { ...route.request().headers(), 'x-ventus': 'changed' } }));
    await page.route('**/made-up', route => route.fulfill({ status: 201, contentType: 'text/html', body: '<title>made up</title>' }));
    await page.route('**/second.html', route => route.abort('accessdenied'));
    const changed = await page.goto(`${site}/echo`);
    const echo = echoed(await changed.text());
    const made = await page.goto(`${site}/made-up`);
    const title = await page.title();
    const aborted = await page.goto(`${site}/second.html`).catch(reason);
    assert.deepEqual([echo.ventus, made.status(), title], ['changed', 201, 'made up']);
    return { echo, made: made.status(), title, aborted };
  }),

  popup: onPage(async ({ page, site }) => {
    await page.goto(`${site}/popup.html`);
    const [popup] = await Promise.all([page.waitForEvent('popup'), page.click('#open')]);
    await popup.waitForLoadState();
    const seen = { title: await popup.title(), opener: (await popup.opener()) === page };
    await popup.close();
    assert.deepEqual(seen, { title: 'Second page', opener: true });
    return seen;
  }),

  'foreign frame': onPage(async ({ browser, page, site }) => {
    await page.goto(`${site}/frames.html`);
    const frame = page.frameLocator('#inner');
    await frame.locator('#field').fill('typed inside');
    const cdp = await browser.newBrowserCDPSession();
    const { targetInfos } = await cdp.send('Target.getTargets');
    const outOfProcess = targetInfos.filter(t => t.type === 'iframe' && t.url.endsWith('/inner.html')).length;
    assert.equal(outOfProcess, 1, 'the frame is a target of its own');
    const shot = png(await page.screenshot());
    return {
      outOfProcess,
      where: await frame.locator('#where').textContent(),
      typed: await frame.locator('#field').inputValue(),
      shot: [shot.width, shot.height],
    };
  }),

  worker: onPage(async ({ page, site }) => {
    const [worker] = await Promise.all([page.waitForEvent('worker'), page.goto(`${site}/worker.html`)]);
    const seen = {
      answer: await page.evaluate(() => window.answer),
      inside: await worker.evaluate(() => self.name2),
      path: new URL(worker.url()).pathname,
    };
    assert.deepEqual(seen, { answer: 42, inside: 'dedicated', path: '/worker.js' });
    return seen;
  }),

  'service worker': onPage(async ({ context, page, site }) => {
    const [worker] = await Promise.all([context.waitForEvent('serviceworker'), page.goto(`${site}/service-worker.html`)]);
    await page.evaluate(() => window.ready);
    const seen = {
      inside: await worker.evaluate(() => self.name2),
      made: await eventually(
        () => page.evaluate(() => navigator.serviceWorker.controller && fetch('/from-service-worker').then(r => r.text())),
        'the worker controls the page',
      ),
    };
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

  upload: onPage(async ({ page, site }) => {
    await page.goto(`${site}/upload.html`);
    const small = Buffer.from('hello, Ventus\n');
    const large = Buffer.alloc(8 << 20, 'abcdefg');
    await page.setInputFiles('#file', [
      { name: 'small.txt', mimeType: 'text/plain', buffer: small },
      { name: 'größe.bin', mimeType: 'application/octet-stream', buffer: large },
    ]);
    const uploaded = await eventually(() => page.evaluate(() => window.uploaded), 'the page has the files');
    const digest = data => createHash('sha256').update(data).digest('hex');
    assert.deepEqual(uploaded.map(f => [f.size, f.sha256]), [[small.length, digest(small)], [large.length, digest(large)]]);
    return { uploaded };
  }),

  console: onPage(async ({ page, site }) => {
    const said = [];
    const thrown = [];
    page.on('console', message => said.push([message.type(), message.text()]));
    page.on('pageerror', error => thrown.push(error.message));
    await page.goto(site);
    await page.evaluate(() => {
      console.log('one', 2);
      console.warn('careful');
      console.error('bad');
      setTimeout(() => { throw new RangeError('uncaught'); }, 0);
      Promise.reject(new Error('unhandled'));
    });
    const ours = () => said.filter(([, text]) => ['one 2', 'careful', 'bad'].includes(text));
    await eventually(() => thrown.length >= 2 && ours().length >= 3, 'messages and errors');
    return { said: ours(), thrown: thrown.sort() };
  }),

  tracing: onPage(async ({ browser, page, site }) => {
    await browser.startTracing(page, { categories: ['devtools.timeline'] });
    await page.goto(site);
    const trace = JSON.parse((await browser.stopTracing()).toString());
    // How many events there are depends on the frames drawn meanwhile; these are always there.
    const ofPage = trace.traceEvents.filter(event => JSON.stringify(event).includes(site)).map(event => event.name);
    for (const name of ['ResourceSendRequest', 'CommitLoad', 'ParseHTML']) assert.ok(ofPage.includes(name), `${name} in ${ofPage}`);
    return { events: true };
  }),

  contexts: async ({ endpoint, site }) => {
    const browser = await connect(endpoint);
    const before = browser.contexts().length;
    const [a, b] = [await browser.newContext({ locale: 'de-DE', userAgent: 'Ventus/1' }), await browser.newContext()];
    const [pa, pb] = [await a.newPage(), await b.newPage()];
    await Promise.all([pa.goto(site), pb.goto(site)]);
    await a.addCookies([{ name: 'who', value: 'a', url: site }]);
    await pb.evaluate(() => localStorage.setItem('who', 'b'));
    const state = await b.storageState();
    const seen = {
      before,
      a: await pa.evaluate(() => [document.cookie, localStorage.getItem('who'), navigator.language, navigator.userAgent]),
      b: await pb.evaluate(() => [document.cookie, localStorage.getItem('who')]),
      stored: state.origins.map(o => o.localStorage),
    };
    await a.close();
    await b.close();
    seen.after = browser.contexts().length;
    await browser.close();
    assert.deepEqual([seen.a, seen.b], [['who=a', null, 'de-DE', 'Ventus/1'], ['', 'b']]);
    return seen;
  },

  'two clients': async ({ endpoint, site }) => {
    const clients = await Promise.all([connect(endpoint), connect(endpoint)]);
    const contexts = await Promise.all(clients.map(c => c.newContext()));
    const pages = await Promise.all(contexts.map(c => c.newPage()));
    await Promise.all(pages.map((p, i) => p.goto(i ? `${site}/second.html` : site)));
    const answers = await Promise.all(
      pages.map((p, i) => Promise.all(Array.from({ length: 100 }, (_, n) => p.evaluate(([i, n]) => [i, n, document.title], [i, n])))),
    );
    const right = answers.map((list, i) => list.every(([who, n, title], k) => who === i && n === k && title === (i ? 'Second page' : 'Ventus test site')));
    await clients[0].close();
    const after = await pages[1].title();
    await clients[1].close();
    assert.deepEqual(right, [true, true]);
    return { right, after };
  },

  reconnect: async ({ endpoint, site }) => {
    const first = await connect(endpoint);
    const page = await first.contexts()[0].newPage();
    await page.goto(`${site}/second.html?kept`);
    await page.evaluate(() => { window.kept = { value: 42 }; });
    await first.close();
    const second = await connect(endpoint);
    const again = second.contexts()[0].pages().find(p => p.url().endsWith('?kept'));
    const seen = { kept: await again.evaluate(() => window.kept), title: await again.title() };
    await again.close();
    await second.close();
    assert.equal(seen.kept.value, 42);
    return seen;
  },

  'much at once': onPage(async ({ context, page }) => {
    const cdp = await context.newCDPSession(page);
    const answers = await Promise.all(
      Array.from({ length: 2000 }, (_, n) => cdp.send('Runtime.evaluate', { expression: `${n} * 2` })),
    );
    const send = text => cdp.send('Runtime.evaluate', { expression: text, returnByValue: true });
    const argument = (await send(`'${'x'.repeat(20 << 20)}'.length`)).result.value;
    const result = (await send("'x'.repeat(50 << 20)")).result.value.length;
    assert.equal(answers.every((a, n) => a.result.value === n * 2), true);
    assert.deepEqual([argument, result], [20 << 20, 50 << 20]);
    return { answers: answers.length, argument, result };
  }),

  close: async ({ endpoint }) => {
    const browser = await connect(endpoint);
    const gone = new Promise(done => browser.once('disconnected', () => done(true)));
    const cdp = await browser.newBrowserCDPSession();
    await cdp.send('Browser.close').catch(() => {});
    return { gone: await gone };
  },
});
