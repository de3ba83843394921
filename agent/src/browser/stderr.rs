//! What a browser says on its standard error.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{io::AsyncReadExt, process::ChildStderr, task::JoinHandle, time};
use tracing::debug;

const LINES_MAX: usize = 40;
const LINE_BYTES_MAX: usize = 512;

/// The last lines of a browser's standard error. Always read, or the browser would block.
#[derive(Debug)]
pub struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl Tail {
    /// Reads until the last process that holds the other end is gone.
    pub fn start(mut from: ChildStderr, browser: String) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = lines.clone();
        let reader = tokio::spawn(async move {
            let mut chunk = [0; 4096];
            let mut line = Vec::new();
            while let Ok(read @ 1..) = from.read(&mut chunk).await {
                for &byte in &chunk[..read] {
                    if byte == b'\n' {
                        keep(&kept, &browser, &line);
                        line.clear();
                    } else if line.len() < LINE_BYTES_MAX {
                        line.push(byte);
                    }
                }
            }
            keep(&kept, &browser, &line);
        });
        Self { lines, reader }
    }

    /// The last lines, after the browser ended: waits a little for what is still on its way.
    pub async fn last_words(&mut self) -> String {
        let _ = time::timeout(Duration::from_millis(500), &mut self.reader).await;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

fn keep(lines: &Mutex<VecDeque<String>>, browser: &str, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let line = line.trim();
    if line.is_empty() {
        return;
    }
    debug!(browser, "{line}");
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    if lines.len() == LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}

/// What of the last lines is worth showing in one sentence: the fatal one, else the last.
pub fn headline(words: &str) -> &str {
    let mut lines = words.lines().rev();
    lines.clone().find(|line| line.contains(":FATAL:")).or_else(|| lines.next()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::process::Command;

    use super::*;

    async fn words_of(script: &str) -> String {
        let mut child =
            Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
        let mut tail = Tail::start(child.stderr.take().unwrap(), "test".into());
        child.wait().await.unwrap();
        tail.last_words().await
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let words =
            words_of("for i in $(seq 1000); do echo line $i; done >&2; printf end >&2").await;
        let lines: Vec<_> = words.lines().collect();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines[LINES_MAX - 2..], ["line 1000", "end"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_bounded() {
        let words = words_of("head -c 3000000 /dev/zero | tr '\\0' x >&2").await;
        assert_eq!(words.len(), LINE_BYTES_MAX);
    }

    #[test]
    fn the_fatal_line_is_the_headline() {
        assert_eq!(
            headline("a\n[1:2:FATAL:x.cc:1] no space\n#0 0x1"),
            "[1:2:FATAL:x.cc:1] no space"
        );
        assert_eq!(headline("a\nb"), "b");
        assert_eq!(headline(""), "");
    }
}
