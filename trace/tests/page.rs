//! The page format: what is encoded is decoded, and nothing that a page may hold does harm.

use proptest::prelude::*;
use trace::page::{self, BadReason, Cursor, Missed};

/// A page with these events (delta, payload), encoded by hand.
fn encode(start: u64, events: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (delta, payload) in events {
        let mut delta = *delta;
        if delta >= page::DELTA_LIMIT {
            for word in page::time_extend(delta) {
                data.extend(word.to_ne_bytes());
            }
            delta = 0;
        }
        let size = page::event_size(payload.len());
        let end = data.len() + size;
        let (head, array0) = page::data_header(size, delta);
        data.extend(head.to_ne_bytes());
        if let Some(array0) = array0 {
            data.extend(array0.to_ne_bytes());
        }
        data.extend(payload);
        data.resize(end, 0);
    }
    let mut bytes = start.to_ne_bytes().to_vec();
    bytes.extend((data.len() as u64).to_ne_bytes());
    bytes.extend(&data);
    bytes.resize(4096, 0xee);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(
        start in 0..1u64 << 60,
        events in prop::collection::vec(
            (prop_oneof![0..1000u64, 0..1u64 << 40], prop::collection::vec(any::<u8>(), 0..200)),
            0..15,
        ),
    ) {
        let bytes = encode(start, &events);
        let header = page::header(&bytes).unwrap();
        prop_assert_eq!(header.time_stamp, start);
        let data = &bytes[16..16 + header.commit];
        let mut cursor = Cursor::new(start);
        let mut ts = start;
        for (delta, payload) in &events {
            let event = cursor.next(data).unwrap().unwrap();
            ts += delta;
            prop_assert_eq!(event.ts, ts);
            let got = &data[event.payload..event.payload + event.len];
            prop_assert_eq!(&got[..payload.len()], &payload[..]);
            prop_assert_eq!(got.len(), payload.len().max(1).next_multiple_of(4));
        }
        prop_assert_eq!(cursor.next(data).unwrap(), None);
        let sum = page::check(&bytes).unwrap();
        prop_assert_eq!(sum.events, events.len() as u64);
        prop_assert_eq!(sum.last_ts, ts);
    }

    #[test]
    fn anything_is_walked_to_an_end(
        mut bytes in prop::collection::vec(any::<u8>(), 0..5000),
        commit in prop::option::of(0..4100u64),
        words in prop::collection::vec((0..1000usize, 0..32u32, 0..3u32, 0..20u32), 0..30),
    ) {
        if let (Some(commit), true) = (commit, bytes.len() >= 16) {
            bytes[8..16].copy_from_slice(&commit.to_ne_bytes());
        }
        for (at, type_len, delta, array0) in words {
            let at = 16 + 4 * at;
            if at + 8 <= bytes.len() {
                bytes[at..at + 4].copy_from_slice(&page::event_header(type_len, delta.into()).to_ne_bytes());
                bytes[at + 4..at + 8].copy_from_slice(&array0.to_ne_bytes());
            }
        }
        let whole = page::check(&bytes);
        let mut cursor = Cursor::new(u64::MAX - 5);
        let mut steps = 0;
        let mut last = 0;
        let end = loop {
            match cursor.next(&bytes) {
                Ok(Some(event)) => {
                    prop_assert!(event.payload + event.len <= bytes.len());
                    prop_assert!(event.ts >= last);
                    last = event.ts;
                }
                end => break end,
            }
            steps += 1;
            prop_assert!(steps <= bytes.len());
        };
        if let Err(bad) = end {
            prop_assert_eq!(bad.offset, cursor.offset);
            prop_assert_eq!(cursor.next(&bytes), Err(bad), "the same answer again");
        }
        let _ = whole;
    }
}

#[test]
fn special_events() {
    let mut words: Vec<u32> = Vec::new();
    words.extend(page::time_stamp((1 << 59) + 1000)); // upper bits come from the page's stamp
    words.push(page::event_header(1, 5));
    words.push(0x1111_1111);
    words.push(page::event_header(page::TYPE_PADDING, 7)); // discarded, two words
    words.push(4);
    words.extend(page::time_extend(1 << 30));
    words.push(page::event_header(1, 0));
    words.push(0x2222_2222);
    words.push(page::event_header(page::TYPE_PADDING, 0)); // the rest
    words.extend([0xffff_ffff; 3]);
    let data: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let start = (1 << 59) + 10;
    let mut cursor = Cursor::new(start);
    let first = cursor.next(&data).unwrap().unwrap();
    assert_eq!(
        (first.ts, first.offset, first.payload, first.len),
        ((1 << 59) + 1005, 8, 12, 4)
    );
    let second = cursor.next(&data).unwrap().unwrap();
    assert_eq!(second.ts, (1 << 59) + 1012 + (1 << 30));
    assert_eq!(cursor.next(&data).unwrap(), None);
}

#[test]
fn an_absolute_stamp_over_the_59_bits_goes_on() {
    let before = (1u64 << 59) - 5;
    let data: Vec<u8> = page::time_stamp((1 << 59) + 3)
        .iter()
        .chain(&[page::event_header(1, 0), 0])
        .flat_map(|w| w.to_ne_bytes())
        .collect();
    let event = Cursor::new(before).next(&data).unwrap().unwrap();
    assert_eq!(event.ts, (1 << 59) + 3);
}

#[test]
fn headers() {
    let page = |commit: u64| {
        let mut bytes = vec![0u8; 4096];
        bytes[8..16].copy_from_slice(&commit.to_ne_bytes());
        bytes[16 + 64..16 + 72].copy_from_slice(&77u64.to_ne_bytes());
        page::header(&bytes)
    };
    assert_eq!(page(64).unwrap().missed, Missed::None);
    assert_eq!(
        page(64 | page::MISSED_EVENTS).unwrap().missed,
        Missed::Unknown
    );
    let stored = page::MISSED_EVENTS | page::MISSED_STORED;
    assert_eq!(page(64 | stored).unwrap().missed, Missed::Count(77));
    for bad in [
        4084,
        63,
        1 << 20,
        1 << 29,
        1 << 40,
        page::MISSED_STORED | 64,
        stored | 4080,
    ] {
        assert!(
            matches!(page(bad).unwrap_err().reason, BadReason::Commit(_)),
            "{bad:#x}"
        );
    }
    assert_eq!(
        page::header(&[0; 15]).unwrap_err().reason,
        BadReason::NoHeader
    );
    assert_eq!(page::max_payload(4096), 4072);
}
