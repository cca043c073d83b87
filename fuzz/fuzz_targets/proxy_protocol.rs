//! A PROXY protocol header: the same for every cut, within its bounds, and what it says can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use limits::proxy_protocol::{self, Header, V1_LONGEST, V2_LONGEST, parse};

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    let mut settled = None;
    for end in 0..=data.len().min(V2_LONGEST) {
        match (parse(&data[..end]), settled) {
            (Ok(None), None) => {}
            (Ok(None), Some(_)) => panic!("undecided again at {end}"),
            (decided, _) => {
                assert_eq!(decided, whole, "at {end}");
                settled.get_or_insert(end);
            }
        }
    }
    assert!(data.len() < V2_LONGEST || settled.is_some(), "undecided for ever");
    if let Ok(Some((header, consumed))) = whole {
        assert!(consumed <= data.len());
        let mut out = Vec::new();
        proxy_protocol::write_v1(&mut out, header.addresses);
        assert!(out.len() <= V1_LONGEST);
        let Ok(Some((again, all))) = parse(&out) else { panic!("what was written cannot be read") };
        assert_eq!((again, all), (Header { addresses: header.addresses }, out.len()));
    }
});
