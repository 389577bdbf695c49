//! Bytes that a console's device has received and nobody has asked for yet.
//!
//! The queue never overruns: when it is full, the device is asked to be silent, and its own flow control holds the sender.
//! At a kexec the queue is cut: what was received up to [`Input::cut`] crosses with the handover, and what comes later stays
//! in the device, for the successor. Nothing may be taken out of the device in between: an interrupt that was on its way
//! when its line was masked would otherwise take bytes that belong to neither.

use alloc::vec::Vec;

/// A receiving device.
pub trait Receiver {
    /// The next byte that it holds.
    fn receive(&mut self) -> Option<u8>;
    /// Whether it interrupts when it holds bytes.
    fn listen(&mut self, on: bool);
}

/// The queue between a device and whoever reads.
pub struct Input {
    bytes: Vec<u8>,
    /// Where the oldest byte of `bytes` is; all before it has been taken.
    taken: usize,
    room: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not opened yet, or cut: bytes stay in the device.
    Closed,
    /// Bytes are received.
    Open,
    /// Full: the device is silent until there is room.
    Full,
}

impl Input {
    /// An empty, closed queue for at most `room` bytes.
    pub const fn new(room: usize) -> Self {
        Input {
            bytes: Vec::new(),
            taken: 0,
            room,
            state: State::Closed,
        }
    }

    /// Starts to receive, at once and from now on. Allocates all that is ever needed.
    pub fn open(&mut self, device: &mut impl Receiver, keep: impl FnMut(u8) -> bool) {
        self.reserve();
        self.state = State::Open;
        device.listen(true);
        // What arrived while nobody listened would raise no edge any more.
        self.receive(device, keep);
    }

    /// Takes what the device holds; whether that was anything. A byte for which `keep` is false is not queued.
    pub fn receive(
        &mut self,
        device: &mut impl Receiver,
        mut keep: impl FnMut(u8) -> bool,
    ) -> bool {
        let mut any = false;
        while self.state == State::Open {
            if self.bytes.len() == self.room {
                if self.taken == 0 {
                    device.listen(false);
                    self.state = State::Full;
                    break;
                }
                self.bytes.drain(..self.taken);
                self.taken = 0;
            }
            let Some(byte) = device.receive() else {
                break;
            };
            any = true;
            if keep(byte) {
                self.bytes.push(byte);
            }
        }
        any
    }

    /// The same, for the device's interrupt. The device is silent meanwhile: each byte that came while others are taken would raise its line
    /// anew, and be taken with them, so that another interrupt would come for nothing. What is there when it listens again raises the line.
    pub fn interrupted(
        &mut self,
        device: &mut impl Receiver,
        keep: impl FnMut(u8) -> bool,
    ) -> bool {
        if self.state == State::Open {
            device.listen(false);
        }
        let any = self.receive(device, keep);
        if self.state == State::Open {
            device.listen(true);
        }
        any
    }

    /// The oldest byte. An emptied queue listens again.
    pub fn take(
        &mut self,
        device: Option<&mut impl Receiver>,
        keep: impl FnMut(u8) -> bool,
    ) -> Option<u8> {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
            if let (State::Full, Some(device)) = (self.state, device) {
                self.state = State::Open;
                device.listen(true);
                self.receive(device, keep);
            }
        }
        let byte = self.bytes.get(self.taken).copied();
        self.taken += usize::from(byte.is_some());
        byte
    }

    /// Whether bytes wait, here or in a silent device.
    pub fn waits(&self) -> bool {
        self.taken < self.bytes.len() || self.state == State::Full
    }

    /// Stops receiving for good (until the next [`open`](Input::open)); the bytes that nobody has asked for yet.
    pub fn cut(&mut self, device: Option<&mut impl Receiver>) -> &[u8] {
        self.state = State::Closed;
        if let Some(device) = device {
            device.listen(false);
        }
        &self.bytes[self.taken..]
    }

    /// Puts older bytes before all others; those beyond the room are lost.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.reserve();
        let room = self.room - self.bytes.len();
        self.bytes.splice(0..0, bytes.iter().copied().take(room));
    }

    /// An interrupt handler must not allocate.
    fn reserve(&mut self) {
        self.bytes
            .reserve_exact(self.room.saturating_sub(self.bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[derive(Default)]
    struct Device {
        holds: VecDeque<u8>,
        listening: bool,
    }

    impl Receiver for Device {
        fn receive(&mut self) -> Option<u8> {
            self.holds.pop_front()
        }
        fn listen(&mut self, on: bool) {
            self.listening = on;
        }
    }

    /// A device with a line whose rising edges make interrupts, and a sender that is as fast as its reader.
    #[derive(Default)]
    struct Line {
        device: Device,
        /// What comes with each byte that is taken.
        coming: VecDeque<u8>,
        raised: bool,
        interrupts: usize,
    }

    impl Line {
        fn look(&mut self) {
            let raised = self.device.listening && !self.device.holds.is_empty();
            self.interrupts += usize::from(raised && !self.raised);
            self.raised = raised;
        }
    }

    impl Receiver for Line {
        fn receive(&mut self) -> Option<u8> {
            let byte = self.device.receive();
            self.look();
            if byte.is_some() {
                self.device.holds.extend(self.coming.pop_front());
            }
            self.look();
            byte
        }
        fn listen(&mut self, on: bool) {
            self.device.listen(on);
            self.look();
        }
    }

    #[test]
    fn no_interrupt_comes_for_what_was_taken_with_the_one_before() {
        let (mut input, mut line) = (Input::new(16), Line::default());
        input.open(&mut line, all);
        line.device.holds.push_back(0);
        line.coming.extend(1..10);
        line.look();
        let mut served = 0;
        while served < line.interrupts {
            served += 1;
            assert!(input.interrupted(&mut line, all), "interrupt {served}");
        }
        assert_eq!(served, 1);
        let bytes: Vec<u8> = std::iter::from_fn(|| input.take(Some(&mut line), all)).collect();
        assert_eq!(bytes, Vec::from_iter(0..10));
        // What comes after the last look at it raises the line when it listens, and a full queue does not let it.
        line.device.holds.extend(0..20);
        line.look();
        assert!(input.interrupted(&mut line, all) && !line.device.listening);
        assert!(!input.interrupted(&mut line, all) && !line.device.listening);
        assert_eq!(line.device.holds.len(), 4);
    }

    fn all(_: u8) -> bool {
        true
    }

    fn drain(input: &mut Input, device: &mut Device) -> Vec<u8> {
        std::iter::from_fn(|| input.take(Some(&mut *device), all)).collect()
    }

    /// The interrupt was raised before its line was masked, and its handler runs after the cut.
    #[test]
    fn an_interrupt_after_the_cut_takes_nothing() {
        let (mut input, mut device) = (Input::new(16), Device::default());
        input.open(&mut device, all);
        device.holds.extend(b"echo ");
        assert!(input.receive(&mut device, all));
        device.holds.extend(b"typed ahead");
        assert_eq!(input.cut(Some(&mut device)), b"echo ");
        assert!(!device.listening);
        assert!(!input.receive(&mut device, all));
        assert_eq!(device.holds, b"typed ahead");

        // The successor has the cut bytes first, then the device's.
        let mut next = Input::new(16);
        next.put_back(b"echo ");
        next.open(&mut device, all);
        assert_eq!(drain(&mut next, &mut device), b"echo typed ahead");

        // Where the kexec did not happen after all, the same holds here.
        device.holds.extend(b"!");
        input.open(&mut device, all);
        assert_eq!(drain(&mut input, &mut device), b"echo !");
    }

    #[test]
    fn a_full_queue_leaves_bytes_in_the_device() {
        let (mut input, mut device) = (Input::new(4), Device::default());
        input.open(&mut device, all);
        device.holds.extend(0..10);
        input.receive(&mut device, all);
        assert!(!device.listening);
        assert_eq!(device.holds.len(), 6);
        assert_eq!(drain(&mut input, &mut device), Vec::from_iter(0..10));
        assert!(device.listening && !input.waits());
    }

    #[test]
    fn room_that_was_read_is_used_again() {
        // Read in part before the device is asked again: the front makes room.
        let (mut input, mut device) = (Input::new(4), Device::default());
        input.open(&mut device, all);
        device.holds.extend([1, 2, 3]);
        input.receive(&mut device, all);
        assert_eq!(input.take(Some(&mut device), all), Some(1));
        device.holds.extend([4, 5]);
        input.receive(&mut device, all);
        assert!(device.holds.is_empty());
        assert_eq!(drain(&mut input, &mut device), [2, 3, 4, 5]);
    }

    #[test]
    fn what_is_not_kept_is_not_queued() {
        let (mut input, mut device) = (Input::new(4), Device::default());
        let mut seen = false;
        input.open(&mut device, all);
        device.holds.extend(b"a\x03b");
        input.receive(&mut device, |byte| {
            seen |= byte == 3;
            byte != 3
        });
        assert!(seen);
        assert_eq!(drain(&mut input, &mut device), b"ab");
    }
}
