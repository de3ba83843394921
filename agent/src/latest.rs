//! The latest of many names, once each.

use std::collections::VecDeque;

/// How many are remembered; the one that was left alone for longest goes first.
const REMEMBERED: usize = 256;

/// Names, the latest last.
#[derive(Default, Debug)]
pub(crate) struct Latest(VecDeque<String>);

impl Latest {
    /// This one is the latest now.
    pub fn note(&mut self, name: String) {
        if self.0.back() == Some(&name) {
            return;
        }
        self.0.retain(|other| *other != name);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(name);
    }

    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_once_each() {
        let mut latest = Latest::default();
        for n in 0..REMEMBERED + 5 {
            latest.note(n.to_string());
        }
        latest.note("7".to_owned());
        let all: Vec<_> = latest.iter().collect();
        assert_eq!(all.len(), REMEMBERED);
        assert_eq!(all[0], "5");
        assert_eq!(all[REMEMBERED - 1], "7");
    }
}
