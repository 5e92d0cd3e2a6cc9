//! What the parsers of other tools' command lines have in common.

use super::ConfigError;

/// Most bytes of a command line that are looked at.
pub const MAX_TEXT: usize = 64 * 1024;
/// Longest part of it that an error shows.
const SHOWN: usize = 80;

/// An error about one word: the cause says what to write instead.
pub(super) fn error(tool: &'static str, word: &str, cause: impl Into<String>) -> ConfigError {
    // Whatever it holds, the message is one line.
    let mut word: String = word.escape_debug().to_string();
    if word.len() > SHOWN {
        word.truncate(word.floor_char_boundary(SHOWN));
        word.push('…');
    }
    ConfigError::Foreign { tool, word, cause: cause.into() }
}

/// `key=value` or `key`.
pub(super) fn option(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    }
}

/// Cuts text into words as a shell does: blanks and newlines divide, quotes and backslashes keep
/// together, a `#` at the beginning of a word hides the rest of its line, and a backslash at the end
/// of a line joins it to the next. Nothing is expanded.
pub(super) fn words(tool: &'static str, text: &str) -> Result<Vec<String>, ConfigError> {
    if text.len() > MAX_TEXT {
        let cause = format!("it is longer than {MAX_TEXT} bytes; is it the right file?");
        return Err(error(tool, text, cause));
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                let into = word.get_or_insert_default();
                quoted(letter, &mut letters, into)
                    .ok_or_else(|| error(tool, text, "a quote is not closed; close it"))?;
            }
            '\\' => match letters.next() {
                Some('\n') | None => {}
                Some(other) => word.get_or_insert_default().push(other),
            },
            '#' if word.is_none() => {
                letters.by_ref().find(|letter| *letter == '\n');
            }
            blank if blank.is_ascii_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Nothing if the quote is not closed.
fn quoted(quote: char, letters: &mut std::str::Chars<'_>, into: &mut String) -> Option<()> {
    loop {
        match letters.next()? {
            letter if letter == quote => return Some(()),
            '\\' if quote == '"' => match letters.next()? {
                '\n' => {}
                other @ ('"' | '\\' | '$' | '`') => into.push(other),
                other => into.extend(['\\', other]),
            },
            other => into.push(other),
        }
    }
}
