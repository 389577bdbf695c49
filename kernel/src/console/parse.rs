//! A typed line, taken apart: words and quotes, `|`, `>`, `>>`, `;`, `&`, `&&`, `||`, comments.
//!
//! The grammar is the shell's that everybody knows, less what the console has no use for: there are no
//! variables except `$?`, no globs (an unquoted `*` is itself, which `set_event` wants), no input
//! redirection. What looks like one of those and cannot be meant literally is refused with a
//! sentence rather than taken for something else.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 8192;
/// Most words (a command's name and its arguments) in one stage of a pipeline.
pub const MAX_WORDS: usize = 4096;
/// Most stages in one pipeline.
pub const MAX_STAGES: usize = 16;
/// Most pipelines in one line.
pub const MAX_PIPELINES: usize = 256;
/// Most redirects of one stage.
pub const MAX_REDIRECTS: usize = 16;

/// One line: pipelines, each with the condition on which it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// In the order typed; empty for a blank line or a comment.
    pub pipelines: Vec<(When, Pipeline)>,
}

/// On which status of the pipeline before it a pipeline runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// First in the line, or after `;`.
    Always,
    /// After `&&`: if the status is 0.
    IfGood,
    /// After `||`: if the status is not 0.
    IfBad,
}

/// Commands, each one's output going into the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// One at least.
    pub stages: Vec<Stage>,
    /// Followed by `&`: it runs in the background. (Of `a && b &` that is `b` alone.)
    pub background: bool,
}

/// A command with its arguments and redirects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// The command's name and its arguments. Empty only where there is a redirect (`> trace`).
    pub words: Vec<Word>,
    /// In the order typed; all are opened, the last takes the output.
    pub redirects: Vec<Redirect>,
}

/// `> path` or `>> path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where to.
    pub path: Word,
    /// `>>`.
    pub append: bool,
}

/// A word whose quotes are gone, and in which `$?` stands apart until the line runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Status,
}

impl Word {
    /// The word with `status` put in for each `$?`.
    pub fn expand(&self, status: i32) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Status => {
                    // Writing to a String cannot fail.
                    let _ = fmt::Write::write_fmt(&mut text, format_args!("{status}"));
                }
            }
        }
        text
    }

    fn push(&mut self, c: char) {
        match self.pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => self.pieces.push(Piece::Text(String::from(c))),
        }
    }
}

/// What is wrong with a line, and where. Columns count characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// A quote without its partner.
    Unterminated {
        /// `'` or `"`.
        quote: char,
        /// Where it was opened.
        column: usize,
    },
    /// A backslash as the last character.
    NothingEscaped {
        /// Where it is.
        column: usize,
    },
    /// `>` or `>>` without a file name.
    NoFileName {
        /// The operator.
        operator: &'static str,
        /// Where it is.
        column: usize,
    },
    /// Nothing before or after `|`, `&&`, `||`, `;`, `&`.
    NoCommand {
        /// The operator.
        operator: &'static str,
        /// Where it is.
        column: usize,
        /// Nothing before it rather than after.
        before: bool,
    },
    /// Something a shell would have and the console has not.
    NotSupported {
        /// What was typed.
        operator: &'static str,
        /// Where it is.
        column: usize,
        /// What to do instead.
        instead: &'static str,
    },
    /// A limit of this module.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ParseError::Unterminated { quote, column } => {
                write!(f, "the {quote} at column {column} has no partner")
            }
            ParseError::NothingEscaped { column } => {
                write!(f, "nothing follows the \\ at column {column}")
            }
            ParseError::NoFileName { operator, column } => {
                write!(f, "no file name after {operator} at column {column}")
            }
            ParseError::NoCommand {
                operator,
                column,
                before,
            } => {
                let side = if before { "before" } else { "after" };
                write!(f, "no command {side} {operator} at column {column}")
            }
            ParseError::NotSupported {
                operator,
                column,
                instead,
            } => write!(
                f,
                "{operator} at column {column} is not supported: {instead}"
            ),
            ParseError::TooMany { what, limit } => write!(f, "more than {limit} {what}"),
        }
    }
}

impl core::error::Error for ParseError {}

/// What stands between words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Pipe,
    And,
    Or,
    Semicolon,
    Background,
    To,
    Append,
}

impl Operator {
    fn text(self) -> &'static str {
        match self {
            Operator::Pipe => "|",
            Operator::And => "&&",
            Operator::Or => "||",
            Operator::Semicolon => ";",
            Operator::Background => "&",
            Operator::To => ">",
            Operator::Append => ">>",
        }
    }
}

enum Token {
    Word(Word),
    Operator(Operator),
}

/// Takes a line apart.
pub fn parse(line: &str) -> Result<Line, ParseError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(ParseError::TooMany {
            what: "bytes in a line",
            limit: MAX_LINE_BYTES,
        });
    }
    let mut lexer = Lexer::new(line);
    let mut parser = Parser::default();
    while let Some((token, column)) = lexer.next()? {
        parser.take(token, column)?;
    }
    parser.end()
}

/// The line so far.
#[derive(Default)]
struct Parser {
    line: Line,
    pipeline: Pipeline,
    stage: Stage,
    /// The condition of the pipeline that is being read.
    when: Option<When>,
    /// A redirect that still needs its file name.
    redirect: Option<(Operator, usize)>,
    /// The operator before the stage that is being read, where a command must follow it.
    wants_command: Option<(Operator, usize)>,
}

impl Parser {
    fn take(&mut self, token: Token, column: usize) -> Result<(), ParseError> {
        match token {
            Token::Word(word) => self.word(word),
            Token::Operator(operator) => self.operator(operator, column),
        }
    }

    fn word(&mut self, word: Word) -> Result<(), ParseError> {
        self.wants_command = None;
        match self.redirect.take() {
            Some((operator, _)) => push(
                &mut self.stage.redirects,
                Redirect {
                    path: word,
                    append: operator == Operator::Append,
                },
                "redirects of one command",
                MAX_REDIRECTS,
            ),
            None => push(&mut self.stage.words, word, "words in a command", MAX_WORDS),
        }
    }

    fn operator(&mut self, operator: Operator, column: usize) -> Result<(), ParseError> {
        self.check_redirect()?;
        if matches!(operator, Operator::To | Operator::Append) {
            self.wants_command = None;
            self.redirect = Some((operator, column));
            return Ok(());
        }
        if self.stage_is_empty() {
            return Err(ParseError::NoCommand {
                operator: operator.text(),
                column,
                before: true,
            });
        }
        self.end_stage()?;
        match operator {
            Operator::Pipe => {}
            Operator::And => self.end_pipeline(When::IfGood)?,
            Operator::Or => self.end_pipeline(When::IfBad)?,
            _ => {
                self.pipeline.background = operator == Operator::Background;
                self.end_pipeline(When::Always)?;
                // A line may end in a semicolon, or in `&`.
                return Ok(());
            }
        }
        self.wants_command = Some((operator, column));
        Ok(())
    }

    fn end(mut self) -> Result<Line, ParseError> {
        self.check_redirect()?;
        if let Some((operator, column)) = self.wants_command {
            return Err(ParseError::NoCommand {
                operator: operator.text(),
                column,
                before: false,
            });
        }
        if !self.stage_is_empty() {
            self.end_stage()?;
            self.end_pipeline(When::Always)?;
        }
        Ok(self.line)
    }

    fn stage_is_empty(&self) -> bool {
        self.stage.words.is_empty() && self.stage.redirects.is_empty()
    }

    fn check_redirect(&self) -> Result<(), ParseError> {
        match self.redirect {
            Some((operator, column)) => Err(ParseError::NoFileName {
                operator: operator.text(),
                column,
            }),
            None => Ok(()),
        }
    }

    fn end_stage(&mut self) -> Result<(), ParseError> {
        let stage = core::mem::take(&mut self.stage);
        push(
            &mut self.pipeline.stages,
            stage,
            "commands in a pipeline",
            MAX_STAGES,
        )
    }

    /// `next` is the condition of the pipeline after this one.
    fn end_pipeline(&mut self, next: When) -> Result<(), ParseError> {
        let pipeline = core::mem::take(&mut self.pipeline);
        let when = self.when.replace(next).unwrap_or(When::Always);
        push(
            &mut self.line.pipelines,
            (when, pipeline),
            "pipelines in a line",
            MAX_PIPELINES,
        )
    }
}

fn push<T>(list: &mut Vec<T>, item: T, what: &'static str, limit: usize) -> Result<(), ParseError> {
    if list.len() >= limit {
        return Err(ParseError::TooMany { what, limit });
    }
    list.push(item);
    Ok(())
}

struct Lexer<'l> {
    rest: core::iter::Peekable<core::str::Chars<'l>>,
    /// Of the next character.
    column: usize,
}

impl<'l> Lexer<'l> {
    fn new(line: &'l str) -> Self {
        Self {
            rest: line.chars().peekable(),
            column: 1,
        }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.column += 1;
        Some(c)
    }

    fn bump_if(&mut self, c: char) -> bool {
        let hit = self.rest.peek() == Some(&c);
        if hit {
            self.bump();
        }
        hit
    }

    /// The next token and the column it starts at.
    fn next(&mut self) -> Result<Option<(Token, usize)>, ParseError> {
        while self.rest.peek().is_some_and(|c| is_blank(*c)) {
            self.bump();
        }
        let column = self.column;
        let Some(&first) = self.rest.peek() else {
            return Ok(None);
        };
        if first == '#' {
            return Ok(None);
        }
        let token = match self.operator(column)? {
            Some(operator) => Token::Operator(operator),
            None => self.word()?,
        };
        Ok(Some((token, column)))
    }

    fn operator(&mut self, column: usize) -> Result<Option<Operator>, ParseError> {
        let not_supported = |operator, instead| {
            Err(ParseError::NotSupported {
                operator,
                column,
                instead,
            })
        };
        if self.bump_if('|') {
            if self.bump_if('&') {
                return not_supported("|&", "only standard output goes through a pipe");
            }
            let or = self.bump_if('|');
            return Ok(Some(if or { Operator::Or } else { Operator::Pipe }));
        }
        if self.bump_if('&') {
            if self.bump_if('&') {
                return Ok(Some(Operator::And));
            }
            return Ok(Some(Operator::Background));
        }
        if self.bump_if(';') {
            return Ok(Some(Operator::Semicolon));
        }
        if self.bump_if('<') {
            return not_supported("<", "give the file's name as an argument, or `cat FILE |`");
        }
        if self.bump_if('>') {
            if self.bump_if('&') {
                return not_supported(">&", "messages always go to the console");
            }
            let append = self.bump_if('>');
            return Ok(Some(if append {
                Operator::Append
            } else {
                Operator::To
            }));
        }
        Ok(None)
    }

    /// A word, or the redirect that a word turns out to be (`1>`).
    fn word(&mut self) -> Result<Token, ParseError> {
        let start = self.column;
        let mut word = Word::default();
        // A quoted empty word is a word.
        while let Some(&c) = self.rest.peek() {
            if is_blank(c) || matches!(c, '|' | '&' | ';' | '<') {
                break;
            }
            if c == '>' {
                // As in every shell, digits right before > name what is redirected.
                if let [Piece::Text(text)] = word.pieces.as_slice()
                    && self.column - start == text.len()
                    && text.bytes().all(|b| b.is_ascii_digit())
                {
                    if text != "1" {
                        return Err(ParseError::NotSupported {
                            operator: "N>",
                            column: start,
                            instead: "only standard output can be redirected",
                        });
                    }
                    return match self.operator(start)? {
                        Some(operator) => Ok(Token::Operator(operator)),
                        None => Ok(Token::Word(word)),
                    };
                }
                break;
            }
            let column = self.column;
            self.bump();
            match c {
                '\'' => self.single_quoted(&mut word, column)?,
                '"' => self.double_quoted(&mut word, column)?,
                '\\' => match self.bump() {
                    Some(c) => word.push(c),
                    None => return Err(ParseError::NothingEscaped { column }),
                },
                '$' if self.bump_if('?') => word.pieces.push(Piece::Status),
                c => word.push(c),
            }
        }
        Ok(Token::Word(word))
    }

    fn single_quoted(&mut self, word: &mut Word, column: usize) -> Result<(), ParseError> {
        loop {
            match self.bump() {
                Some('\'') => return Ok(()),
                Some(c) => word.push(c),
                None => {
                    return Err(ParseError::Unterminated {
                        quote: '\'',
                        column,
                    });
                }
            }
        }
    }

    fn double_quoted(&mut self, word: &mut Word, column: usize) -> Result<(), ParseError> {
        loop {
            match self.bump() {
                Some('"') => return Ok(()),
                Some('$') if self.bump_if('?') => word.pieces.push(Piece::Status),
                Some('\\') => match self.bump() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                    Some(c) => {
                        word.push('\\');
                        word.push(c);
                    }
                    None => return Err(ParseError::Unterminated { quote: '"', column }),
                },
                Some(c) => word.push(c),
                None => return Err(ParseError::Unterminated { quote: '"', column }),
            }
        }
    }
}

/// White space between words. A line from the editor has no other; one from elsewhere may.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// What completion needs to know about the end of an unfinished line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Byte offset at which the last word starts, its quotes included; the line's length after a blank.
    pub start: usize,
    /// That word with quotes and backslashes taken off.
    pub word: String,
    /// The quote that is still open.
    pub quote: Option<char>,
    /// The word is a command's name.
    pub is_command: bool,
    /// The word follows `>` or `>>`.
    pub is_redirect: bool,
    /// Inside a comment, where nothing is completed.
    pub is_comment: bool,
    /// The name of the command that the word is an argument of; empty if it is the name itself.
    pub command: String,
}

/// Reads the line up to the cursor for completion. Never fails: whatever the parser would refuse is passed over.
pub fn unfinished(line: &str) -> Unfinished {
    let mut u = Unfinished {
        start: 0,
        word: String::new(),
        quote: None,
        is_command: true,
        is_redirect: false,
        is_comment: false,
        command: String::new(),
    };
    let mut in_word = false;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = at + c.len_utf8();
        if let Some(quote) = u.quote {
            match c {
                _ if c == quote => u.quote = None,
                '\\' if quote == '"' => match chars.peek() {
                    Some(&(_, escaped @ ('"' | '\\' | '$' | '`'))) => {
                        u.word.push(escaped);
                        chars.next();
                    }
                    _ => u.word.push('\\'),
                },
                _ => u.word.push(c),
            }
            continue;
        }
        match c {
            _ if is_blank(c) => {
                if in_word {
                    u.end_word();
                    in_word = false;
                }
                u.start = next;
            }
            '|' | '&' | ';' => {
                in_word = false;
                u.word.clear();
                u.command.clear();
                u.is_command = true;
                u.is_redirect = false;
                u.start = next;
            }
            '>' => {
                if in_word {
                    u.end_word();
                    in_word = false;
                }
                u.is_redirect = true;
                u.start = next;
            }
            '#' if !in_word => {
                u.is_comment = true;
                return u;
            }
            _ => {
                if !in_word {
                    in_word = true;
                    u.start = at;
                }
                match c {
                    '\'' | '"' => u.quote = Some(c),
                    '\\' => {
                        if let Some((_, escaped)) = chars.next() {
                            u.word.push(escaped);
                        }
                    }
                    _ => u.word.push(c),
                }
            }
        }
    }
    u
}

impl Unfinished {
    fn end_word(&mut self) {
        let word = core::mem::take(&mut self.word);
        if self.is_redirect {
            self.is_redirect = false;
        } else if self.is_command {
            self.command = word;
            self.is_command = false;
        }
    }
}

/// `text` written so that [`parse`] reads it back as one word; `quote` is one that is already open and stays so.
pub fn escape(text: &str, quote: Option<char>) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match quote {
            Some('\'') if c == '\'' => escaped.push_str("'\\'"),
            Some('\'') => {}
            Some(_) if matches!(c, '"' | '\\' | '$' | '`') => escaped.push('\\'),
            Some(_) => {}
            None if matches!(
                c,
                ' ' | '\t' | '|' | '&' | ';' | '<' | '>' | '#' | '\'' | '"' | '\\' | '$'
            ) =>
            {
                escaped.push('\\')
            }
            None => {}
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
