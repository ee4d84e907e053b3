#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::{MemoryStore, MessageStore};

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    /// Of the messages there are, the one at this place, as often as it goes round.
    Remove(Vec<usize>),
    Read {
        skip: usize,
        max: usize,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0_u8..50, 0..5).prop_map(Step::Push),
        2 => prop::collection::vec(0_usize..20, 0..5).prop_map(Step::Remove),
        2 => (0_usize..20, 0_usize..10).prop_map(|(skip, max)| Step::Read { skip, max }),
        1 => Just(Step::Reopen),
    ]
}

/// A message of its size, and different from the others.
fn message(size: u8, number: u64) -> Bytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(8 + usize::from(size), size);
    bytes.into()
}

/// The steps on the store and on a plain queue: there is never a difference. `reopen` gives the same store again.
fn same_as_a_queue<S: MessageStore>(store: S, steps: Vec<Step>, reopen: impl Fn(S) -> S) {
    let mut store = store;
    let mut model: VecDeque<(u64, Bytes)> = VecDeque::new();
    let mut number = 0;
    for step in steps {
        match step {
            Step::Push(sizes) => {
                let numbers = number..number + sizes.len() as u64;
                number = numbers.end;
                let messages: Vec<_> = sizes.iter().zip(numbers).map(|(s, n)| message(*s, n)).collect();
                let first = store.end();
                assert!(model.back().is_none_or(|(last, _)| *last < first));
                store.push(&messages).unwrap();
                model.extend((first..).zip(messages));
            }
            Step::Remove(places) if model.is_empty() => store.remove(&vec![7; places.len()]).unwrap(),
            Step::Remove(places) => {
                let positions: Vec<_> = places.iter().map(|place| model[place % model.len()].0).collect();
                store.remove(&positions).unwrap();
                model.retain(|(position, _)| !positions.contains(position));
            }
            Step::Read { skip, max } => {
                let from = model.get(skip).map_or(store.end(), |(position, _)| *position);
                let expected: Vec<_> = model.iter().skip(skip).take(max).cloned().collect();
                assert_eq!(store.read(from, max).unwrap(), expected);
            }
            Step::Reopen => store = reopen(store),
        }
        assert_eq!(store.len(), model.len());
        assert_eq!(store.is_empty(), model.is_empty());
        assert_eq!(store.bytes(), model.iter().map(|(_, message)| message.len() as u64).sum::<u64>());
        assert!(model.back().is_none_or(|(last, _)| *last < store.end()));
    }
    assert_eq!(store.read(0, usize::MAX).unwrap(), Vec::from(model));
}

proptest! {
    #[test]
    fn memory_is_a_queue(steps in prop::collection::vec(step(), 0..60)) {
        same_as_a_queue(MemoryStore::new(), steps, |store| store);
    }
}

#[cfg(feature = "file-buffer")]
mod file {
    use iothub_common::ErrorKind;

    use super::*;
    use crate::FileStore;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_file_is_a_queue_and_the_same_when_opened_again(steps in prop::collection::vec(step(), 0..25)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("telemetry");
            same_as_a_queue(FileStore::open(&path).unwrap(), steps, |store| {
                drop(store);
                FileStore::open(&path).unwrap()
            });
        }
    }

    #[test]
    fn a_file_has_one_user_and_a_folder_and_is_not_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telemetry");
        let kind = |path: &std::path::Path| FileStore::open(path).unwrap_err().kind();
        let store = FileStore::open(&path).unwrap();
        let error = FileStore::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("in use"), "{error}");
        drop(store);
        FileStore::open(&path).unwrap();
        assert_eq!(kind(&folder.path().join("missing").join("telemetry")), ErrorKind::Unavailable);
        assert_eq!(kind(folder.path()), ErrorKind::Unavailable);
        let other = folder.path().join("other");
        std::fs::write(&other, "a file of somebody else\n".repeat(1000)).unwrap();
        assert_eq!(kind(&other), ErrorKind::InvalidInput);
        assert_eq!(std::fs::read(&other).unwrap().len(), 24_000, "it is left as it was");
    }

    #[test]
    fn space_of_messages_that_left_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("telemetry");
        let mut store = FileStore::open(&path).unwrap();
        let mut sizes = Vec::new();
        for round in 0..40 {
            let messages: Vec<_> = (0..20).map(|n| Bytes::from(vec![n; 10_000])).collect();
            store.push(&messages).unwrap();
            let positions: Vec<_> = (store.end() - 20..store.end()).collect();
            store.remove(&positions).unwrap();
            if round >= 10 {
                sizes.push(std::fs::metadata(&path).unwrap().len());
            }
        }
        assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    }
}
