//! Which key the bytes of a terminal mean: control characters, UTF-8, and the escape sequences of the
//! usual terminals (VT100's in both forms, xterm's with modifiers, rxvt's and the Linux console's home and end).

/// Most bytes of an escape sequence; what comes after is text again.
const MAX_ESCAPE_BYTES: usize = 16;

/// Bytes of a key that is not complete yet.
#[derive(Debug, Default)]
enum Input {
    #[default]
    Ground,
    /// Part of a UTF-8 character.
    Utf8 {
        bytes: [u8; 4],
        have: usize,
        need: usize,
    },
    Escape,
    /// After ESC `[`: parameters so far, and how many bytes came.
    Csi {
        params: Params,
        bytes: usize,
    },
    /// After ESC `[ [`: the Linux console's function keys.
    CsiBracket,
    Ss3,
}

/// The first two numbers of a control sequence.
#[derive(Clone, Copy, Debug, Default)]
struct Params {
    values: [u16; 2],
    index: usize,
}

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    Backspace,
    Delete,
    KillToEnd,
    KillToStart,
    KillWordBack,
    KillBlankWordBack,
    KillWord,
    Yank,
    Tab,
    Enter,
    Interrupt,
    DeleteOrEof,
    Clear,
    /// The terminal begins to send pasted text (bracketed paste, xterm's mode 2004) ...
    PasteStart,
    /// ... and has sent it.
    PasteEnd,
}

/// Puts keys together from bytes; holds at most one that is not complete.
#[derive(Debug, Default)]
pub(super) struct Keys {
    input: Input,
}

impl Keys {
    /// Puts the bytes of a key together. `None`: not complete, or no key of ours.
    ///
    /// `refuse` is called for bytes that are no text.
    pub(super) fn key(&mut self, byte: u8, refuse: &mut dyn FnMut()) -> Option<Key> {
        if byte < 0x20 || byte == 0x7f {
            // A control byte ends whatever was begun, and counts by itself.
            if let Input::Utf8 { .. } = self.input {
                refuse();
            }
            let alt = matches!(self.input, Input::Escape);
            self.input = Input::Ground;
            if alt && matches!(byte, 0x7f | 0x08) {
                return Some(Key::KillWordBack);
            }
            return self.control(byte);
        }
        match core::mem::take(&mut self.input) {
            Input::Ground => self.ground(byte, refuse),
            Input::Utf8 {
                mut bytes,
                have,
                need,
            } => {
                if byte & 0xc0 != 0x80 {
                    refuse();
                    return self.ground(byte, refuse);
                }
                bytes[have] = byte;
                let have = have + 1;
                if have < need {
                    self.input = Input::Utf8 { bytes, have, need };
                    return None;
                }
                let c = core::str::from_utf8(&bytes[..have]).ok()?.chars().next();
                match c {
                    // U+0080 to U+009F are control characters; terminals act on them.
                    Some(c) if !c.is_control() => Some(Key::Char(c)),
                    _ => {
                        refuse();
                        None
                    }
                }
            }
            Input::Escape => self.escape(byte),
            Input::Csi { params, bytes } => self.csi(byte, params, bytes),
            Input::CsiBracket => None,
            Input::Ss3 => final_byte(byte),
        }
    }

    fn ground(&mut self, byte: u8, refuse: &mut dyn FnMut()) -> Option<Key> {
        let need = match byte {
            0x20..0x7f => return Some(Key::Char(char::from(byte))),
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => {
                // No character starts like this.
                refuse();
                return None;
            }
        };
        self.input = Input::Utf8 {
            bytes: [byte, 0, 0, 0],
            have: 1,
            need,
        };
        None
    }

    fn control(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x7f | 0x08 => Key::Backspace,
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Interrupt,
            0x04 => Key::DeleteOrEof,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x0b => Key::KillToEnd,
            0x0c => Key::Clear,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillToStart,
            0x17 => Key::KillBlankWordBack,
            0x19 => Key::Yank,
            0x1b => {
                self.input = Input::Escape;
                return None;
            }
            _ => return None,
        })
    }

    /// The byte after ESC.
    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => {
                self.input = Input::Csi {
                    params: Params::default(),
                    bytes: 0,
                };
                None
            }
            b'O' => {
                self.input = Input::Ss3;
                None
            }
            b'b' | b'B' => Some(Key::WordLeft),
            b'f' | b'F' => Some(Key::WordRight),
            b'd' | b'D' => Some(Key::KillWord),
            _ => None,
        }
    }

    fn csi(&mut self, byte: u8, mut params: Params, bytes: usize) -> Option<Key> {
        match byte {
            b'[' if bytes == 0 => {
                self.input = Input::CsiBracket;
                None
            }
            0x20..=0x3f => {
                if bytes + 1 >= MAX_ESCAPE_BYTES {
                    return None;
                }
                params.take(byte);
                self.input = Input::Csi {
                    params,
                    bytes: bytes + 1,
                };
                None
            }
            b'~' => match params.values[0] {
                1 | 7 => Some(Key::Home),
                4 | 8 => Some(Key::End),
                3 => Some(Key::Delete),
                200 => Some(Key::PasteStart),
                201 => Some(Key::PasteEnd),
                _ => None,
            },
            // The second parameter holds the modifiers: ctrl or alt makes words of characters.
            b'C' if params.values[1] > 1 => Some(Key::WordRight),
            b'D' if params.values[1] > 1 => Some(Key::WordLeft),
            _ => final_byte(byte),
        }
    }
}

/// The keys that have the same last byte after `ESC [` and `ESC O`.
fn final_byte(byte: u8) -> Option<Key> {
    Some(match byte {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        _ => return None,
    })
}

impl Params {
    fn take(&mut self, byte: u8) {
        match byte {
            b'0'..=b'9' => {
                if let Some(value) = self.values.get_mut(self.index) {
                    *value = value
                        .saturating_mul(10)
                        .saturating_add(u16::from(byte - b'0'));
                }
            }
            b';' => self.index += 1,
            _ => {}
        }
    }
}
