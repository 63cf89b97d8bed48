//! The inbox as one thread sees it; what several do is for loom (`make loom`).

use arbitrary::Unstructured;
use reactor::Inbox;

pub fn run(input: &[u8]) {
    let steps = crate::all(&mut Unstructured::new(input), 400, |input| {
        Ok((input.int_in_range(0..=9_u8)?, input.int_in_range(1..=20_usize)?))
    });
    let inbox = Inbox::new();
    let (mut queue, mut batch, mut model) = (Vec::new(), Vec::new(), Vec::new());
    let (mut named, mut closed) = (0, false);
    for (kind, count) in steps {
        match kind {
            0..=5 => {
                for _ in 0..count {
                    named += 1;
                    let expected = if closed { Err(named) } else { Ok(queue.is_empty()) };
                    assert_eq!(inbox.push(named), expected);
                    if !closed {
                        queue.push(named);
                    }
                }
            }
            6 | 7 => {
                inbox.drain_into(&mut batch);
                model.append(&mut queue);
            }
            8 => {
                batch.drain(..count.min(batch.len()));
                model.drain(..count.min(model.len()));
            }
            _ => {
                assert_eq!(inbox.close(), queue);
                queue.clear();
                closed = true;
            }
        }
        assert_eq!(inbox.is_empty(), queue.is_empty());
        assert_eq!(batch, model);
    }
}
