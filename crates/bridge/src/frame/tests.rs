use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

fn fields() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    proptest::collection::vec((bytes(20), bytes(50)), 0..10)
}

fn pairs(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (&name[..], &value[..])).collect()
}

proptest! {
    #[test]
    fn requests_read_as_written(
        parts in proptest::collection::vec(bytes(40), 7),
        ports in any::<(u16, u16)>(),
        length in proptest::option::of(0..u64::MAX),
        fields in fields(),
    ) {
        let listed = pairs(&fields);
        let request = RequestFrame {
            version: 11, is_https: true, server_port: ports.0, remote_port: ports.1, content_length: length,
            method: &parts[0], target: &parts[1], path: &parts[2], query: &parts[3], script_name: &parts[4],
            remote_address: &parts[5], server_name: &parts[6], fields: &mut listed.iter().copied(),
        };
        let mut into = Vec::new();
        Encoder { into: &mut into }.request(request).unwrap();
        prop_assert_eq!(read_header(&into), Some((REQUEST, into.len() - FRAME_HEADER)));
        let view = RequestView::parse(into[FRAME_HEADER..].to_vec()).unwrap();
        prop_assert_eq!((view.version(), view.scheme()), (11, 1));
        prop_assert_eq!((view.server_port(), view.remote_port()), ports);
        prop_assert_eq!(view.content_length(), length);
        let seen = [view.method(), view.target(), view.path(), view.query(), view.script_name(),
            view.remote_address(), view.server_name()];
        prop_assert_eq!(seen.map(<[u8]>::to_vec).to_vec(), parts.clone());
        prop_assert_eq!(view.headers().collect::<Vec<_>>(), pairs(&fields));
        for cut in FRAME_HEADER..into.len() {
            prop_assert!(RequestView::parse(into[FRAME_HEADER..cut].to_vec()).is_none());
        }
    }

    #[test]
    fn heads_read_as_written(status in 100..1000_u16, reason in bytes(30), fields in fields()) {
        let mut into = Vec::new();
        Encoder { into: &mut into }.head(status, &reason, pairs(&fields)).unwrap();
        let payload = Bytes::from(into).slice(FRAME_HEADER..);
        let Some(ResponseFrame::Head(head)) = ResponseFrame::parse(HEAD, &payload) else { panic!("no head") };
        prop_assert_eq!((head.status(), head.reason()), (status, &reason[..]));
        prop_assert_eq!(head.fields().collect::<Vec<_>>(), pairs(&fields));
        for (_, value) in head.fields() {
            prop_assert_eq!(&head.bytes(value)[..], value);
        }
        for cut in 0..payload.len() {
            prop_assert!(ResponseFrame::parse(HEAD, &payload.slice(..cut)).is_none());
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(kind in any::<u8>(), payload in bytes(200)) {
        let _ = ResponseFrame::parse(kind, &Bytes::from(payload.clone()));
        let _ = RequestView::parse(payload.clone());
        let _ = read_header(&payload);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut into = Vec::new();
    assert_eq!(Encoder { into: &mut into }.head(200, &vec![b'x'; 65536], []), Err(TooLong));
    assert!(ResponseFrame::parse(END, &Bytes::from_static(&[2])).is_none());
    assert!(ResponseFrame::parse(FILE, &Bytes::from_static(&[0xff; 16])).is_none());
}
