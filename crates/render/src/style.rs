//! Colour, only where it was asked for.

use anstyle::{AnsiColor, Style as Ansi};

/// Whether and how to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Write escape sequences.
    pub colour: bool,
}

impl Style {
    /// A header or label.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    /// What the answer is.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        self.paint(Ansi::new().bold(), text)
    }

    /// Something to look at twice.
    #[must_use]
    pub fn warn(self, text: &str) -> String {
        self.paint(Ansi::new().fg_color(Some(AnsiColor::Yellow.into())), text)
    }

    fn paint(self, style: Ansi, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}
