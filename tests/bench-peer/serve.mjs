// Serves browserless with one browser: the binary in BROWSER. Its other settings come by its own
// variables; it reads its package.json from the working directory.
import playwright from 'playwright-core';

// It asks Playwright where Chromium is, which would have downloaded one of its own.
playwright.chromium.executablePath = () => process.env.BROWSER;

const { Browserless } = await import('@browserless.io/browserless');
const server = new Browserless();
process.once('SIGTERM', async () => {
  await server.stop();
  process.exit(0);
});
await server.start();
