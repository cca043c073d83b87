//! A response head: the same for every cut, within its limits, and of one framing.
#![no_main]

use http1::{AnswerTo, Limits, ResponseFraming, ResponseHead, parse_response_head};
use libfuzzer_sys::fuzz_target;

// The first byte chooses limits and what is answered, the second where the input is cut.
fuzz_target!(|data: &[u8]| {
    let [choice, cut, buf @ ..] = data else { return };
    let limits = match choice & 1 {
        0 => Limits::default(),
        _ => Limits { fields: 5, field_size: 30, head: 120, ..Limits::default() },
    };
    let bare_lf = choice & 2 != 0;
    let to = AnswerTo { head: choice & 4 != 0, upgrade: choice & 8 != 0 };
    let said = |head: &ResponseHead| (head.status, head.framing, head.keep_alive, head.fields.clone());

    let mut head = ResponseHead::default();
    let whole = parse_response_head(buf, &limits, bare_lf, to, &mut head);
    let mut parts = ResponseHead::default();
    let cut = usize::from(*cut).min(buf.len());
    let mut outcome = parse_response_head(&buf[..cut], &limits, bare_lf, to, &mut parts);
    if outcome == Ok(None) {
        outcome = parse_response_head(buf, &limits, bare_lf, to, &mut parts);
    }
    assert_eq!(outcome, whole);
    // One byte at a time, in a head that was used before.
    let bytewise = (0..=buf.len())
        .map(|end| parse_response_head(&buf[..end], &limits, bare_lf, to, &mut parts))
        .find(|outcome| *outcome != Ok(None));
    assert_eq!(bytewise.unwrap_or(Ok(None)), whole);

    let Ok(Some(taken)) = whole else { return };
    assert_eq!(said(&parts), said(&head));
    assert!(taken <= limits.head && head.fields.len() <= limits.fields);
    assert!(!(head.keep_alive && head.framing == ResponseFraming::Close));
    for (name, value) in head.lines(buf) {
        assert!(http1::is_token(name) && http1::is_field_value(value));
    }
});
