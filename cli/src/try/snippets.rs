//! Code to paste into a shell after the first session.

use std::path::Path;

use crate::style::Style;

/// What the snippets need to know. The key itself is not among it: they read it from the
/// environment, so that it stays out of scroll-back and screenshots.
pub struct Snippets<'a> {
    /// The server.
    pub base_url: &'a str,
    /// Where its key is kept, unless the environment already has it.
    pub key_file: Option<&'a Path>,
}

impl Snippets<'_> {
    /// All of them, each under its name.
    pub fn text(&self, style: Style) -> String {
        let mut parts = Vec::new();
        if let Some(path) = self.key_file {
            let shown = path.display();
            parts.push((
                "The API key, for all that follows",
                format!("export VENTUS_API_KEY=$(grep -o 'vs_[^\"]*' '{shown}')"),
            ));
        }
        parts.push(("curl", self.curl()));
        parts.push(("Puppeteer", self.puppeteer()));
        parts.push(("Playwright", self.playwright()));
        let mut text = String::new();
        for (name, code) in parts {
            text += &format!("\n{}\n{code}\n", style.bold(&format!("  {name}")));
        }
        text
    }

    fn curl(&self) -> String {
        format!(
            r#"curl -s {}/v1/sessions -H "Authorization: Bearer $VENTUS_API_KEY" \
  -H "Idempotency-Key: $(date +%s%N)" -H 'Content-Type: application/json' -d '{{}}' -w '\n'"#,
            self.base_url
        )
    }

    fn puppeteer(&self) -> String {
        self.node(
            "puppeteer-core",
            "import puppeteer from 'puppeteer-core';",
            "const browser = await puppeteer.connect({ browserWSEndpoint: session.connect_url });\n\
             const page = await browser.newPage();",
            "puppeteer.png",
        )
    }

    fn playwright(&self) -> String {
        self.node(
            "playwright-core",
            "import { chromium } from 'playwright-core';",
            "const browser = await chromium.connectOverCDP(session.connect_url);\n\
             const page = await browser.contexts()[0].newPage();",
            "playwright.png",
        )
    }

    /// A session by Node: they differ only in how a page comes about.
    fn node(&self, package: &str, import: &str, page: &str, picture: &str) -> String {
        let base_url = self.base_url;
        format!(
            r"npm install --silent --no-save {package} && node --input-type=module <<'JS'
{import}
const session = await fetch('{base_url}/v1/sessions', {{
  method: 'POST',
  headers: {{
    'Authorization': `Bearer ${{process.env.VENTUS_API_KEY}}`,
    'Idempotency-Key': crypto.randomUUID(),
    'Content-Type': 'application/json',
  }},
  body: '{{}}',
}}).then((answer) => answer.json());
{page}
await page.setContent('<h1>It works.</h1>'); // or: await page.goto('https://example.com');
await page.screenshot({{ path: '{picture}' }});
await browser.close();
console.log('screenshot in {picture}');
JS"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_name_the_server_and_never_the_key() {
        let path = Path::new("/data/credentials.json");
        let snippets = Snippets { base_url: "http://127.0.0.1:9", key_file: Some(path) };
        let text = snippets.text(Style::of_stdout());
        assert_eq!(text.matches("http://127.0.0.1:9/v1/sessions").count(), 3);
        assert!(text.contains("'/data/credentials.json'"));
        let known = Snippets { key_file: None, ..snippets };
        assert!(!known.text(Style::of_stdout()).contains("export"));
    }
}
