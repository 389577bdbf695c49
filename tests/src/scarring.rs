//! Regions that are damaged between two lives, and what the next start finds in them. `tests/guest/ramtrace.rs` does some of it in each
//! run, `cargo run -p tests --bin scars` all of it.
//!
//! A machine whose memory is a file records into the region under load, and is stopped at a random moment. Then, round by round, the region
//! as it was then is damaged in some way and put into the file, the machine is reset, and it is looked at what the new life shows.
//!
//! # What it is held against
//!
//! The `trace` library reads the region here, on the host, twice: as it was, and damaged. Page by page:
//!
//! - what is kept of the damaged one has the bytes, the number and the length that it had (or ends at its seal, and is named);
//! - a page that the damage did not touch is kept, and none such is named;
//! - a page that is not kept is named, unless the damage hit both what says that it is there (its mark), and what says so once more (its bit in
//!   the bitmap; a page of zeroes is nothing in any case);
//! - what was not sealed yet when the machine was stopped may read otherwise, if the damage hit it: the seal is what would tell. Such pages are
//!   counted as loose, and what of them was sealed has to be exact.
//!
//! The guest has to show what the host reads of the damaged region, byte for byte: the names of all records, the head with its
//! counts and the pages it names, each event, the log. If no page is loose, each event is one of the undamaged region's. Then the new
//! life has to record, and what it has recorded has to be there after one more reset.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use handover::mem::PAGE_SIZE;
use handover::range::PhysRange;
use handover::sim::SimMemory;
use trace::page::HEADER_SIZE;
use trace::ramtrace::mark;
use trace::ramtrace::old::{self, OldLife};
use trace::ramtrace::{Beginning, Geometry, NO_CPU, Region, RegionError, SLOTS};
use trace::testing::TestPlatform;

use crate::damaging::Random;
use crate::{Guest, Setup, lines, resetting};

const PSTORE: &str = "/sys/fs/pstore";
const TRACING: &str = "/sys/kernel/tracing";

/// A way of damaging a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// None: so that what is compared is known to be the same.
    None,
    /// Single bits anywhere in the region.
    Bits,
    /// Single bits in pages that hold something, and in their marks.
    UsedBits,
    /// Pages of zeroes anywhere.
    Zeroes,
    /// Pages of zeroes where something is held.
    UsedZeroes,
    /// Pages of random bytes where something is held.
    Noise,
    /// Pages that hold something, exchanged with others.
    Swap,
    /// One superblock or both: bits, or all of it.
    Superblock,
    /// A copy of a life's metadata or both: bits, or all of it.
    Metadata,
    /// Bitmaps: bits, zeroes, or ones.
    Bitmaps,
    /// Marks: bits, a page of zeroes, of ones, or of random bytes.
    Marks,
    /// The log and the state of a life: bits, or pages of zeroes.
    Own,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 12] = [
        Kind::None,
        Kind::Bits,
        Kind::UsedBits,
        Kind::Zeroes,
        Kind::UsedZeroes,
        Kind::Noise,
        Kind::Swap,
        Kind::Superblock,
        Kind::Metadata,
        Kind::Bitmaps,
        Kind::Marks,
        Kind::Own,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::None => "none",
            Kind::Bits => "bits anywhere",
            Kind::UsedBits => "bits of used pages and their marks",
            Kind::Zeroes => "pages zeroed anywhere",
            Kind::UsedZeroes => "used pages zeroed",
            Kind::Noise => "used pages filled at random",
            Kind::Swap => "used pages exchanged",
            Kind::Superblock => "superblocks",
            Kind::Metadata => "metadata",
            Kind::Bitmaps => "bitmaps",
            Kind::Marks => "marks",
            Kind::Own => "log and state",
        })
    }
}

/// What came of one round, or of several.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many.
    pub rounds: u64,
    /// Pages kept.
    pub kept: u64,
    /// Of these, pages of which the end is not kept.
    pub cut: u64,
    /// Of these, pages that were damaged where they were not sealed.
    pub loose: u64,
    /// Pages that are dropped, and named.
    pub dropped: u64,
    /// Pages of which nothing tells any more.
    pub untold: u64,
    /// Regions of which no superblock was left.
    pub gone: u64,
    /// Lives of which both copies of the metadata were damaged. Not in the table: their pages are.
    pub without_metadata: u64,
    /// What is wrong, a sentence each.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Both.
    pub fn add(&mut self, other: Outcome) {
        self.rounds += other.rounds;
        self.kept += other.kept;
        self.cut += other.cut;
        self.loose += other.loose;
        self.dropped += other.dropped;
        self.untold += other.untold;
        self.gone += other.gone;
        self.without_metadata += other.without_metadata;
        self.wrong.extend(other.wrong);
    }
}

impl fmt::Display for Outcome {
    /// The cells of a row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            rounds,
            kept,
            cut,
            loose,
            dropped,
            untold,
            gone,
            without_metadata: _,
            wrong,
        } = self;
        let wrong = wrong.len();
        write!(
            f,
            "{rounds} | {kept} | {cut} | {loose} | {dropped} | {untold} | {gone} | {wrong}"
        )
    }
}

/// The machine: its memory is a file, its buffers live in a small region from the start.
pub fn setup(cpus: u32) -> Setup {
    Setup::new()
        .smp(cpus)
        .memory_file()
        .append("trace_options=persist trace_buf_size=64K ramtrace.mem_size=4M")
}

/// An event page as it is read.
#[derive(Clone, Debug)]
struct Page {
    buffer: u8,
    cpu: u8,
    seq: u64,
    /// Its time stamp and its data.
    stamp: [u8; 8],
    data: Vec<u8>,
    sealed: usize,
    cut: bool,
}

/// A life as it is read.
#[derive(Clone, Debug, Default)]
struct Life {
    /// By index.
    pages: BTreeMap<u64, Page>,
    /// The indices of pages that are dropped and named.
    named: BTreeSet<u64>,
    missing: u64,
    /// Its metadata are damaged.
    damaged: bool,
    /// The records, by the name that they have in `/sys/fs/pstore` but for the number of lives: the text.
    texts: BTreeMap<String, String>,
    /// The sizes of those with pages.
    raws: BTreeMap<String, usize>,
}

/// A region as it is read: its lives by how many lives ago they were.
type Lives = BTreeMap<u64, Life>;

/// A simulated machine that has the region at the guest's place.
struct Host {
    platform: TestPlatform,
    range: PhysRange,
}

impl Host {
    fn new(range: PhysRange) -> Self {
        Host {
            platform: TestPlatform::on(SimMemory::new(&[range])),
            range,
        }
    }

    /// All that is left in a region of these bytes when the next life has begun in it.
    fn read(&self, bytes: &[u8]) -> Result<Lives, RegionError> {
        self.platform.memory.write(self.range.start, bytes);
        // SAFETY: the memory is simulated, and holds nothing but the region. No one that was opened in it before is still used.
        let region = unsafe { Region::open(self.platform, self.range) }?;
        let beginning = Beginning {
            release: "",
            build: 0,
            boot_id: [0; 16],
            cpus: 1,
            clock: "local",
            tracer: "nop",
        };
        region.begin_life(&beginning, 0)?;
        let numbers = region.old_numbers().into_iter();
        let lives = numbers.map(|number| {
            let ago = region.life() - number - 1;
            (ago, self.life(&region, number))
        });
        Ok(lives.collect())
    }

    fn life(&self, region: &Region<TestPlatform>, number: u64) -> Life {
        let old = OldLife::read(region, number).expect("a life that there is can be read");
        let mut life = Life {
            damaged: !old.metadata_good,
            ..Life::default()
        };
        life.named
            .extend(old.strays.iter().map(|stray| stray.index));
        for (at, buffer) in old.buffers.iter().enumerate() {
            for cpu in &buffer.cpus {
                life.missing += cpu.missing;
                life.named.extend(cpu.dropped.iter().map(|one| one.index));
                for page in &cpu.pages {
                    let bytes = self.platform.memory.read(page.page.pa, page.size());
                    let mut stamp = [0; 8];
                    stamp.copy_from_slice(&bytes[..8]);
                    let read = Page {
                        buffer: buffer.number,
                        cpu: cpu.cpu,
                        seq: page.seq,
                        stamp,
                        data: bytes[HEADER_SIZE..][..page.commit].to_vec(),
                        sealed: page.sealed,
                        cut: page.cut.is_some(),
                    };
                    life.pages.insert(page.index, read);
                }
            }
            // One whose metadata are damaged may have them in another order: all of these machines have one buffer.
            assert_eq!(at, 0, "the machine has one buffer");
            let mut text = String::new();
            old::write_text(region, number, buffer.number, &mut text)
                .expect("a buffer that there is can be shown");
            life.texts.insert("trace".into(), text);
            let mut size = 0;
            let mut out = |page: &[u8]| {
                size += page.len();
                Ok(())
            };
            old::write_raw(region, number, buffer.number, &mut out)
                .expect("pages that there are can be shown");
            life.raws.insert("trace".into(), size);
        }
        if old.metadata_good && !old.life.log.is_empty() {
            let (mut text, damaged) = region.read_log(&old.life);
            if damaged > 0 {
                text += &format!("# {damaged} damaged records of this log are left out\n");
            }
            life.texts.insert("dmesg".into(), text);
        }
        life
    }
}

/// A machine that is stopped, and what its region held then.
pub struct Scarred {
    guest: Guest,
    host: Host,
    geometry: Geometry,
    bytes: Vec<u8>,
    lives: Lives,
    /// The number of the machine's life then.
    last: u64,
    /// About what a start takes.
    start: Duration,
}

/// The bytes of a region, as they are damaged.
struct Damaged<'a> {
    bytes: Vec<u8>,
    random: &'a mut Random,
}

impl Damaged<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.random.below(n as u64) as usize
    }

    fn flip(&mut self, from: usize, len: usize) {
        let (at, bit) = (from + self.below(len), self.below(8));
        self.bytes[at] ^= 1 << bit;
    }

    fn page(&mut self, page: u64) -> &mut [u8] {
        let size = PAGE_SIZE as usize;
        &mut self.bytes[page as usize * size..][..size]
    }

    fn noise(&mut self, page: u64) {
        for at in 0..PAGE_SIZE as usize {
            let byte = self.random.below(256) as u8;
            self.page(page)[at] = byte;
        }
    }

    fn one_of(&mut self, pages: &[u64]) -> u64 {
        pages[self.below(pages.len())]
    }

    /// Some bits of the first `len` bytes of a page, all of it to zeroes, ones or random bytes.
    fn some(&mut self, page: u64, len: usize) {
        match self.below(6) {
            0 => self.page(page).fill(0),
            1 => self.page(page).fill(0xff),
            2 => self.noise(page),
            _ => {
                for _ in 0..1 + self.below(16) {
                    self.flip(page as usize * PAGE_SIZE as usize, len);
                }
            }
        }
    }
}

/// Where the region is.
fn place(guest: &mut Guest) -> PhysRange {
    let map = guest.ok("cat /proc/iomem");
    let line = map.lines().find(|line| line.ends_with(" : ramtrace"));
    let range = line.and_then(|line| {
        let (start, end) = line.trim().split_once(" : ")?.0.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some(PhysRange::new(address(start)?, address(end)? + 1))
    });
    match range {
        Some(range) => range,
        None => guest.fail("/proc/iomem names no ramtrace region"),
    }
}

fn reset(guest: &mut Guest) {
    guest.monitor("system_reset");
    guest.monitor("cont");
    guest.expect("generation 0 (cold)");
    guest.expect_prompt();
}

impl Scarred {
    /// A machine of `cpus` CPUs that has had `before` lives already, each of which has recorded, when it is stopped in the middle of its work.
    pub fn new(setup: &Setup, cpus: u32, before: u64, random: &mut Random) -> Self {
        let mut guest = setup.boot();
        let start = guest.started().elapsed();
        let range = place(&mut guest);
        for life in 0..=before {
            guest.ok(&format!("seq 1 1000 > {TRACING}/trace_marker"));
            resetting::count(&mut guest, cpus, 5 + random.below(30) as u32);
            thread::sleep(Duration::from_micros(random.below(200_000)));
            guest.monitor("stop");
            if life < before {
                reset(&mut guest);
            }
        }
        let mut bytes = vec![0; range.len() as usize];
        if let Err(error) = guest.memory().read_exact_at(&mut bytes, range.start) {
            guest.fail(&format!("the machine's memory cannot be read: {error}"));
        }
        let host = Host::new(range);
        let read = host.read(&bytes);
        let lives = match read {
            Ok(lives) => lives,
            Err(error) => guest.fail(&format!("the region cannot be read: {error}")),
        };
        // SAFETY: as in `Host::read`, whose own was dropped at its end.
        let region = unsafe { Region::open(host.platform, range) }.expect("it was just read");
        let cpus = region.cpus();
        // The one that has begun for reading comes after it.
        let last = before + 1;
        if lives.get(&0).is_none_or(|life| life.pages.is_empty()) {
            guest.fail("the machine has recorded nothing");
        }
        let named = lives.values().map(|life| life.named.len()).sum::<usize>();
        if named != 0 {
            guest.fail(&format!(
                "{named} pages are dropped of a region that was not damaged: {:?}",
                lives.values().map(|life| &life.named).collect::<Vec<_>>()
            ));
        }
        Scarred {
            guest,
            geometry: Geometry::new(range.len(), cpus).expect("such a region was just read"),
            host,
            bytes,
            lives,
            last,
            start,
        }
    }

    /// How many lives there are to be found.
    pub fn lives(&self) -> usize {
        self.lives.len()
    }

    /// Does a damage to a copy.
    fn damage(&self, kind: Kind, random: &mut Random) -> Vec<u8> {
        let size = PAGE_SIZE as usize;
        let geometry = &self.geometry;
        let pages = self.lives.values().flat_map(|life| life.pages.iter());
        let used: Vec<(u64, usize)> = pages
            .map(|(index, page)| (*index, HEADER_SIZE + page.data.len()))
            .collect();
        let mut region = Damaged {
            bytes: self.bytes.clone(),
            random,
        };
        // Of one life more often than of the others.
        let slot = |region: &mut Damaged<'_>| {
            let slot = match region.below(2) {
                0 => (self.last - 1) % u64::from(SLOTS),
                _ => region.random.below(u64::from(SLOTS)),
            };
            1 + slot * geometry.slot_pages
        };
        let a_used = |region: &mut Damaged<'_>| {
            let at = region.below(used.len());
            (geometry.data + used[at].0, used[at])
        };
        match kind {
            Kind::None => {}
            Kind::Bits => {
                for _ in 0..1 + region.below(64) {
                    region.flip(0, self.bytes.len());
                }
            }
            Kind::UsedBits => {
                for _ in 0..1 + region.below(64) {
                    let (page, (index, len)) = a_used(&mut region);
                    match region.below(3) {
                        0 => region.flip(self.mark(index), mark::SIZE),
                        _ => region.flip(page as usize * size, len),
                    }
                }
            }
            Kind::Zeroes => {
                for _ in 0..1 + region.below(16) {
                    let page = region.random.below(geometry.pages);
                    region.page(page).fill(0);
                }
            }
            Kind::UsedZeroes => {
                for _ in 0..1 + region.below(8) {
                    let page = a_used(&mut region).0;
                    region.page(page).fill(0);
                }
            }
            Kind::Noise => {
                for _ in 0..1 + region.below(8) {
                    let page = a_used(&mut region).0;
                    region.noise(page);
                }
            }
            Kind::Swap => {
                for _ in 0..1 + region.below(4) {
                    let one = a_used(&mut region).0;
                    let other = match region.below(4) {
                        0 => geometry.data + region.random.below(geometry.data_pages),
                        _ => a_used(&mut region).0,
                    };
                    let kept = region.page(one).to_vec();
                    let moved = region.page(other).to_vec();
                    region.page(one).copy_from_slice(&moved);
                    region.page(other).copy_from_slice(&kept);
                }
            }
            Kind::Superblock => {
                let which = 1 + region.below(7);
                for (bit, page) in [(1, 0), (2, geometry.pages - 1)] {
                    // Both of them seldom.
                    if which & bit != 0 && (which & 3 != 3 || which & 4 != 0) {
                        region.some(page, 40);
                    }
                }
            }
            Kind::Metadata => {
                let first = slot(&mut region);
                match region.below(3) {
                    0 => region.some(first, 600),
                    1 => region.some(first + 1, 600),
                    _ => {
                        region.some(first, 600);
                        region.some(first + 1, 600);
                    }
                }
            }
            Kind::Bitmaps => {
                for _ in 0..1 + region.below(4) {
                    let bitmaps = geometry.slot_pages - 2;
                    let page = slot(&mut region) + 2 + region.random.below(bitmaps);
                    region.some(page, geometry.data_pages.div_ceil(8) as usize);
                }
            }
            Kind::Marks => {
                let pages = geometry.data - geometry.marks;
                let page = geometry.marks + region.random.below(pages);
                region.some(page, size);
            }
            Kind::Own => {
                let own = self.own();
                for _ in 0..1 + region.below(4) {
                    let page = geometry.data + region.one_of(&own);
                    region.some(page, size);
                }
            }
        }
        region.bytes
    }

    /// The indices of pages that belong to a life itself.
    fn own(&self) -> Vec<u64> {
        let indices = 0..self.geometry.data_pages;
        let own = indices.filter(|&index| self.owner(index) == Some(NO_CPU));
        own.collect()
    }

    /// The CPU of a page's owner, by the mark that was not damaged.
    fn owner(&self, index: u64) -> Option<u8> {
        let word = word(&self.bytes, self.mark(index));
        mark::Owner::decode(word, index).map(|owner| owner.cpu)
    }

    /// Where the mark of a data page stands.
    fn mark(&self, index: u64) -> usize {
        self.geometry.marks as usize * PAGE_SIZE as usize + index as usize * mark::SIZE
    }

    /// Where a data page stands.
    fn data(&self, index: u64) -> usize {
        (self.geometry.data + index) as usize * PAGE_SIZE as usize
    }

    /// Whether these bytes are damaged.
    fn is_hit(&self, damaged: &[u8], at: usize, len: usize) -> bool {
        self.bytes[at..at + len] != damaged[at..at + len]
    }

    /// Whether a bit of a page is damaged in any of the bitmaps.
    fn is_bit_hit(&self, damaged: &[u8], index: u64) -> bool {
        let bitmaps = (0..u64::from(SLOTS)).flat_map(|slot| {
            let first = 1 + slot * self.geometry.slot_pages + 2;
            (0..=u64::from(self.geometry.cpus)).map(move |at| first + at)
        });
        let at = index as usize / 8;
        let mut bytes = bitmaps.map(|page| page as usize * PAGE_SIZE as usize + at);
        assert_eq!(self.geometry.bitmap_pages, 1, "the region is a small one");
        bytes.any(|at| (self.bytes[at] ^ damaged[at]) >> (index % 8) & 1 != 0)
    }

    /// Damages the region in these ways, resets the machine, and looks at what its next life finds.
    pub fn round(&mut self, kinds: &[Kind], random: &mut Random) -> Outcome {
        let mut damaged = self.bytes.clone();
        for kind in kinds {
            let other = self.damage(*kind, random);
            for ((byte, whole), other) in damaged.iter_mut().zip(&self.bytes).zip(other) {
                if *whole != other {
                    *byte = other;
                }
            }
        }
        let mut outcome = Outcome {
            rounds: 1,
            ..Outcome::default()
        };
        self.put(&damaged);
        reset(&mut self.guest);
        match self.host.read(&damaged) {
            Ok(lives) => {
                for (ago, life) in &self.lives {
                    let none = Life::default();
                    let after = lives.get(ago).unwrap_or(&none);
                    self.compare(life, after, &damaged, &mut outcome);
                }
                self.look(&lives, &mut outcome, random.below(4) == 0);
                let damaged = lives.values().filter(|life| life.damaged).count();
                self.look_for_damage(damaged, &mut outcome);
            }
            Err(RegionError::NoSuperblock) => {
                outcome.gone = 1;
                self.look(&Lives::new(), &mut outcome, false);
            }
            Err(error) => outcome
                .wrong
                .push(format!("the host cannot read it: {error}")),
        }
        self.record(random, &mut outcome);
        outcome
    }

    /// Puts the region back as it was, and resets the machine; so many times the start is broken off by a reset, at a random moment of the
    /// whole start or of the kernel's part of it. The start after that has to show all lives as they were.
    pub fn broken_starts(&mut self, times: u64, random: &mut Random) -> Outcome {
        let mut outcome = Outcome {
            rounds: 1,
            ..Outcome::default()
        };
        self.put(&self.bytes.clone());
        self.guest.monitor("system_reset");
        for _ in 0..times {
            self.guest.monitor("cont");
            // In the kernel, where the region is found and a life begins, more often than where firmware and boot loader are at work.
            let longest = match random.below(4) {
                0 => self.start,
                _ => {
                    while !self
                        .guest
                        .monitor("info registers")
                        .contains("RIP=ffffffff8")
                    {}
                    self.start / 4
                }
            };
            let wait = random.below(longest.as_micros() as u64 + 1);
            thread::sleep(Duration::from_micros(wait));
            self.guest.monitor("stop");
            self.guest.pass_over();
            self.guest.monitor("system_reset");
        }
        self.guest.monitor("cont");
        self.guest.expect("generation 0 (cold)");
        self.guest.expect_prompt();
        let begun = self.guest.ok("dmesg | grep 'ramtrace: .*: life .* begins'");
        let now = begun
            .split_once(": life ")
            .and_then(|(_, rest)| crate::number_after(rest, ""));
        let Some(now) = now.filter(|now| (1..=times + 1).contains(&now.wrapping_sub(self.last)))
        else {
            self.guest
                .fail(&format!("which life this is cannot be told: {begun:?}"));
        };
        let lives = self.lives.clone();
        for (ago, life) in lives {
            let ago = ago + now - self.last - 1;
            outcome.kept += life.pages.len() as u64;
            self.look_at(ago, &life, &mut outcome);
        }
        // What the lives in between left is little, and can be read.
        for ago in 0..now - self.last - 1 {
            for name in ["trace", "dmesg"] {
                let file = format!("{name}-ramtrace-{ago}");
                let text = self.guest.run(&format!("cat {PSTORE}/{file}"));
                if self.guest.status() == 0 {
                    if text.contains("dropped\n") && !text.contains(" 0 dropped\n")
                        || text.contains("damaged")
                    {
                        outcome.wrong.push(format!("{file} is damaged: {text}"));
                    }
                } else if !text.contains("ENOENT") {
                    outcome.wrong.push(format!("{file}: {text}"));
                }
            }
        }
        self.record(random, &mut outcome);
        outcome
    }

    /// The log of the start names as many lives whose metadata are damaged.
    fn look_for_damage(&mut self, damaged: usize, outcome: &mut Outcome) {
        let log = self.guest.ok("dmesg");
        let said = log
            .lines()
            .filter(|line| line.contains("ramtrace: the metadata of life "));
        let said = said.count();
        outcome.without_metadata += damaged as u64;
        if said != damaged {
            outcome.wrong.push(format!(
                "the metadata of {damaged} lives are damaged, and the log says so of {said}: {log}"
            ));
        }
    }

    /// Writes the region.
    fn put(&mut self, bytes: &[u8]) {
        let start = self.host.range.start;
        if let Err(error) = self.guest.memory().write_all_at(bytes, start) {
            self.guest
                .fail(&format!("the region cannot be written to: {error}"));
        }
    }

    /// Holds a life as it is read of the damaged region against what it was.
    fn compare(&self, before: &Life, after: &Life, damaged: &[u8], outcome: &mut Outcome) {
        let mut untold = 0;
        let mut loose = 0;
        for (index, page) in &after.pages {
            outcome.kept += 1;
            outcome.cut += u64::from(page.cut);
            let Some(was) = before.pages.get(index) else {
                outcome
                    .wrong
                    .push(format!("page {index} is kept, and was not written"));
                continue;
            };
            let sealed = page.sealed.max(was.sealed);
            let same = (page.buffer, page.cpu, page.seq, page.stamp)
                == (was.buffer, was.cpu, was.seq, was.stamp);
            let long = page.data.len() == was.data.len() || page.cut && page.data.len() == sealed;
            let exact = same && long && was.data.starts_with(&page.data);
            let sealed_exact =
                was.sealed == page.sealed && page.data.get(..sealed) == was.data.get(..sealed);
            let unsealed_hit = self.is_hit(damaged, self.mark(*index), mark::SIZE)
                || self.is_hit(damaged, self.data(*index) + 8, 8)
                || self.is_hit(
                    damaged,
                    self.data(*index) + HEADER_SIZE + sealed,
                    PAGE_SIZE as usize - HEADER_SIZE - sealed,
                )
                || sealed == 0 && self.is_hit(damaged, self.data(*index), HEADER_SIZE);
            if exact {
            } else if sealed < was.data.len()
                && unsealed_hit
                && (same || sealed == 0)
                && sealed_exact
            {
                loose += 1;
            } else {
                outcome.wrong.push(format!(
                    "page {index} is kept, and is not what it was: {} bytes (sealed {}) number {} of CPU {}; was {} (sealed {}) number {} of CPU {}",
                    page.data.len(), page.sealed, page.seq, page.cpu, was.data.len(), was.sealed, was.seq, was.cpu
                ));
            }
        }
        for (index, was) in &before.pages {
            let named = after.named.contains(index);
            if after.pages.contains_key(index) {
                if named {
                    outcome
                        .wrong
                        .push(format!("page {index} is kept, and named as dropped"));
                }
                continue;
            }
            let mark_hit = self.is_hit(damaged, self.mark(*index), mark::SIZE);
            let len = HEADER_SIZE + was.data.len();
            let hit = mark_hit || self.is_hit(damaged, self.data(*index), len);
            if !hit {
                outcome.wrong.push(format!(
                    "page {index} was not touched, and is not kept (sealed {} of {}, {})",
                    was.sealed,
                    was.data.len(),
                    if named { "named" } else { "not named" },
                ));
            }
            let empty = word(damaged, self.data(*index) + 8) == 0;
            if named {
                outcome.dropped += 1;
            } else if mark_hit && (empty || self.is_bit_hit(damaged, *index)) {
                untold += 1;
            } else if was.sealed == 0 && hit {
                loose += 1;
            } else {
                outcome
                    .wrong
                    .push(format!("page {index} is neither kept nor named"));
            }
        }
        for index in &after.named {
            if before.pages.contains_key(index) || self.is_bit_hit(damaged, *index) {
                continue;
            }
            // An empty page that is one no more.
            let hit = self.is_hit(damaged, self.mark(*index), mark::SIZE)
                || self.is_hit(damaged, self.data(*index), PAGE_SIZE as usize);
            if !hit {
                outcome
                    .wrong
                    .push(format!("page {index} was nothing, and is named"));
            }
        }
        if after.missing > untold + loose {
            outcome.wrong.push(format!(
                "{} pages are said to be missing, and {untold} are",
                after.missing
            ));
        }
        outcome.untold += untold;
        outcome.loose += loose;
        // Events are those that were recorded; the log's lines those that were logged.
        for (name, text) in &after.texts {
            let formats = !text.contains("# its formats are lost");
            if name == "trace" && (loose > 0 || !formats) {
                continue;
            }
            let was: BTreeSet<&str> = before.texts.get(name).map_or("", |t| t).lines().collect();
            let new = text.lines().find(|line| {
                let told = line.contains(" EVENTS]") || line.starts_with('#');
                !told && !was.contains(line)
            });
            if let Some(line) = new {
                outcome
                    .wrong
                    .push(format!("{name}: a line that was not there: {line:?}"));
            }
        }
    }

    /// Holds what the guest shows against what is read here; of all lives, or of the last one.
    fn look(&mut self, lives: &Lives, outcome: &mut Outcome, all: bool) {
        let mut names = Vec::new();
        for (ago, life) in lives {
            names.extend(
                life.texts
                    .keys()
                    .map(|name| format!("{name}-ramtrace-{ago}")),
            );
            names.extend(
                life.raws
                    .keys()
                    .map(|name| format!("{name}-ramtrace-{ago}.raw")),
            );
        }
        names.sort();
        let shown = self.guest.ok(&format!("ls {PSTORE}"));
        let mut shown: Vec<&str> = shown.split_whitespace().collect();
        shown.sort_unstable();
        if shown != names {
            outcome.wrong.push(format!(
                "the records are {shown:?}, and should be {names:?}"
            ));
            return;
        }
        for (ago, life) in lives.iter().filter(|(ago, _)| all || **ago == 0) {
            self.look_at(*ago, life, outcome);
        }
    }

    /// Holds what the guest shows of a life against what is read here.
    fn look_at(&mut self, ago: u64, life: &Life, outcome: &mut Outcome) {
        for (name, text) in &life.texts {
            let file = format!("{PSTORE}/{name}-ramtrace-{ago}");
            let shown = self.guest.run(&format!("cat {file}"));
            if shown == *text {
                continue;
            }
            let mut pairs = lines(&shown).zip(text.lines());
            let (shown, should) = pairs
                .find(|(shown, should)| shown != should)
                .unwrap_or(("less or more", "all"));
            outcome
                .wrong
                .push(format!("{file}: {shown:?} is shown for {should:?}"));
        }
        for (name, size) in &life.raws {
            let file = format!("{PSTORE}/{name}-ramtrace-{ago}.raw");
            let shown = self.guest.run(&format!("wc -c {file}"));
            if crate::number_after(&shown, "") != Some(*size as u64) {
                outcome
                    .wrong
                    .push(format!("{file} should have {size} bytes: {shown}"));
            }
        }
    }

    /// The new life records into the region, and sometimes the one after it finds that. Then the machine is stopped.
    fn record(&mut self, random: &mut Random, outcome: &mut Outcome) {
        let number = 1 + random.below(1 << 40);
        let guest = &mut self.guest;
        guest.ok(&format!("echo {number} > {TRACING}/trace_marker"));
        let line = format!("tracing_mark_write: {number}");
        let again = random.below(8) == 0;
        let persist = guest.ok(&format!("cat {TRACING}/options/persist"));
        // The command that looks for it is an event, too.
        let markers = |text: &str| lines(text).filter(|found| found.ends_with(&line)).count();
        let trace = guest.ok(&format!("grep '{line}' {TRACING}/trace"));
        if (persist.trim(), markers(&trace)) != ("1", 1) {
            outcome.wrong.push(format!(
                "the new life does not record one marker: persist {persist:?}, {trace:?}"
            ));
        } else if again {
            guest.monitor("stop");
            reset(guest);
            let trace = guest.run(&format!("grep '{line}' {PSTORE}/trace-ramtrace-0"));
            if markers(&trace) != 1 {
                outcome
                    .wrong
                    .push(format!("what the new life recorded is lost: {trace:?}"));
            }
        }
        let now = place(guest);
        guest.monitor("stop");
        if now != self.host.range {
            // The machine has made a new one, which must not be found beside the old one.
            let memory = guest.memory();
            for at in [now.start, now.end - PAGE_SIZE] {
                if let Err(error) = memory.write_all_at(&[0; PAGE_SIZE as usize], at) {
                    guest.fail(&format!("the region cannot be written to: {error}"));
                }
            }
        }
    }

    /// Ends the machine.
    pub fn poweroff(mut self) {
        self.guest.monitor("cont");
        self.guest.poweroff();
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}
