//! The stream buffer beside one plain vector, and the search for separators beside the plainest one. The property tests
//! and the fuzzer draw the calls.

use wire::stream_buffer::search;
use wire::{Search, Separators, StreamBuffer};

pub(crate) type Buffer = StreamBuffer<Vec<u8>>;

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Keep(Vec<u8>),
    Copy(Vec<u8>),
    Take(usize),
    /// So many 256ths of what is there.
    Consume(usize),
    /// All but so many bytes.
    ConsumeAllBut(usize),
    Clear,
    /// All is looked at. That joins pieces, so it is not done after each call.
    Bytes,
    /// A `readuntil` begins: the separators, none empty, and the limit.
    Look(Vec<Vec<u8>>, i64),
    /// It looks again, whatever has happened to the buffer meanwhile.
    LookAgain,
}

pub(crate) fn taken(buffer: &mut Buffer, len: usize) -> (bool, Vec<u8>) {
    buffer.take(len, |whole| (true, whole), |part| (false, part.to_vec()))
}

pub(crate) fn run(calls: Vec<Call>) {
    let (mut buffer, mut model, mut reader) = (Buffer::default(), Vec::new(), None);
    for call in calls {
        match call {
            Call::Keep(bytes) => {
                model.extend_from_slice(&bytes);
                buffer.push(bytes);
            }
            Call::Copy(bytes) => {
                model.extend_from_slice(&bytes);
                buffer.push_copy(&bytes);
            }
            Call::Take(len) => {
                let expected: Vec<u8> = model.drain(..len.min(model.len())).collect();
                assert_eq!(taken(&mut buffer, len).1, expected);
            }
            Call::Consume(part) => {
                let len = model.len() * part / 256;
                model.drain(..len);
                buffer.consume(len);
            }
            Call::ConsumeAllBut(left) => {
                let len = model.len().saturating_sub(left);
                model.drain(..len);
                buffer.consume(len);
            }
            Call::Clear => {
                model.clear();
                buffer.clear();
            }
            Call::Bytes => assert_eq!(buffer.bytes(), &model[..]),
            Call::Look(separators, limit) => {
                reader = Reader::new(separators, limit);
                look(&mut reader, &mut buffer, &mut model);
            }
            Call::LookAgain => look(&mut reader, &mut buffer, &mut model),
        }
        assert_eq!(buffer.len(), model.len());
        assert_eq!(buffer.is_empty(), model.is_empty());
    }
    assert_eq!(buffer.bytes(), &model[..]);
}

/// Who waits for a separator.
struct Reader {
    separators: Vec<Vec<u8>>,
    limit: i64,
    scanned: usize,
}

impl Reader {
    fn new(mut separators: Vec<Vec<u8>>, limit: i64) -> Option<Self> {
        separators.sort_by_key(Vec::len);
        (!separators.is_empty()).then_some(Self {
            separators,
            limit,
            scanned: 0,
        })
    }
}

fn look(waiting: &mut Option<Reader>, buffer: &mut Buffer, model: &mut Vec<u8>) {
    let Some(reader) = waiting else { return };
    let sorted: Vec<&[u8]> = reader.separators.iter().map(Vec::as_slice).collect();
    let mut model_scanned = reader.scanned;
    let expected = plain_search(model, &sorted, &mut model_scanned, reader.limit);
    if let [only] = sorted[..] {
        let mut scanned = reader.scanned;
        let found = search(buffer.bytes(), &Separators::One(only), &mut scanned, reader.limit);
        assert_eq!((found, scanned), (expected, model_scanned));
    }
    let found = search(
        buffer.bytes(),
        &Separators::Any(&sorted),
        &mut reader.scanned,
        reader.limit,
    );
    assert_eq!((found, reader.scanned), (expected, model_scanned));
    if let Search::Take(len) = found {
        assert_eq!(taken(buffer, len).1, model.drain(..len).collect::<Vec<_>>());
    }
    if found != Search::Wait {
        *waiting = None;
    }
}

/// `readuntil`'s rule, place by place: the first end of a match counts, and of those that end there the shortest one.
fn plain_search(bytes: &[u8], sorted: &[&[u8]], scanned: &mut usize, limit: i64) -> Search {
    let (shortest, longest) = (sorted[0].len(), sorted[sorted.len() - 1].len());
    if bytes.len() < *scanned + shortest {
        return Search::Wait;
    }
    for end in *scanned + shortest..=bytes.len() {
        for separator in sorted {
            if bytes[*scanned..end].ends_with(separator) {
                let start = end - separator.len();
                return if start as i64 > limit {
                    Search::FoundTooFar(start)
                } else {
                    Search::Take(end)
                };
            }
        }
    }
    *scanned = (bytes.len() + 1).saturating_sub(longest);
    if *scanned as i64 > limit {
        Search::NotFound(*scanned)
    } else {
        Search::Wait
    }
}
