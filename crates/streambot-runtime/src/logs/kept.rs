//! The log objects that wait for their upload: the last one, and those that could not be uploaded
//! before.

use std::collections::VecDeque;

use bytes::Bytes;

/// How many objects are kept.
const MAX_OBJECTS: usize = 100;
/// How many bytes of lines are kept in all. The last object is kept whatever its size.
const MAX_BYTES: usize = 8 << 20;
/// How often the upload of one object is tried.
const MAX_ATTEMPTS: u32 = 5;

/// The lines of one invocation, under the key of that invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) request_id: String,
    pub(super) lines: Bytes,
    failed_attempts: u32,
}

impl Object {
    pub(super) fn new(key: String, request_id: String, lines: Bytes) -> Self {
        Self { key, request_id, lines, failed_attempts: 0 }
    }
}

/// What was given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) objects: usize,
    pub(super) bytes: usize,
}

/// The objects, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    objects: VecDeque<Object>,
    bytes: usize,
}

impl Kept {
    /// Adds the newest object. The oldest are given up where there are too many.
    pub(super) fn add(&mut self, object: Object) -> Dropped {
        self.bytes += object.lines.len();
        self.objects.push_back(object);
        self.drop_excess()
    }

    /// Takes the oldest object.
    pub(super) fn take(&mut self) -> Option<Object> {
        let object = self.objects.pop_front()?;
        self.bytes -= object.lines.len();
        Some(object)
    }

    /// Takes back an object whose upload was not tried.
    pub(super) fn put_back(&mut self, object: Object) {
        self.bytes += object.lines.len();
        self.objects.push_front(object);
    }

    /// Takes back an object whose upload failed. It is given up after its last attempt.
    pub(super) fn fail(&mut self, mut object: Object) -> Dropped {
        object.failed_attempts += 1;
        if object.failed_attempts == MAX_ATTEMPTS {
            return Dropped { objects: 1, bytes: object.lines.len() };
        }
        self.put_back(object);
        self.drop_excess()
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    fn drop_excess(&mut self) -> Dropped {
        let mut dropped = Dropped::default();
        while self.objects.len() > MAX_OBJECTS || (self.bytes > MAX_BYTES && self.objects.len() > 1)
        {
            let Some(object) = self.take() else { break };
            dropped.objects += 1;
            dropped.bytes += object.lines.len();
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: usize, bytes: usize) -> Object {
        Object::new(format!("key-{number}"), format!("id-{number}"), Bytes::from(vec![b'x'; bytes]))
    }

    fn keys(mut kept: Kept) -> Vec<String> {
        std::iter::from_fn(|| kept.take()).map(|object| object.key).collect()
    }

    #[test]
    fn the_oldest_objects_are_dropped_when_there_are_too_many() {
        let mut kept = Kept::default();
        for number in 0..100 {
            assert_eq!(kept.add(object(number, 1)), Dropped::default());
        }
        assert_eq!(kept.add(object(100, 1)), Dropped { objects: 1, bytes: 1 });
        let keys = keys(kept);
        assert_eq!((keys.len(), &*keys[0], &*keys[99]), (100, "key-1", "key-100"));
    }

    #[test]
    fn the_oldest_objects_are_dropped_when_they_are_too_large() {
        let mut kept = Kept::default();
        let mebibyte = 1 << 20;
        assert_eq!(kept.add(object(0, 3 * mebibyte)), Dropped::default());
        assert_eq!(kept.add(object(1, 3 * mebibyte)), Dropped::default());
        assert_eq!(kept.add(object(2, 3 * mebibyte)), Dropped { objects: 1, bytes: 3 * mebibyte });
        assert_eq!(kept.add(object(3, 9 * mebibyte)), Dropped { objects: 2, bytes: 6 * mebibyte });
        assert_eq!(keys(kept), ["key-3"], "the last one is kept");
    }

    #[test]
    fn a_failed_object_is_the_next_one_again_until_its_last_attempt() {
        let mut kept = Kept::default();
        kept.add(object(0, 5));
        kept.add(object(1, 5));
        for _ in 0..4 {
            let object = kept.take().expect("an object");
            assert_eq!(object.key, "key-0");
            assert_eq!(kept.fail(object), Dropped::default());
        }
        let object = kept.take().expect("an object");
        assert_eq!(kept.fail(object), Dropped { objects: 1, bytes: 5 });
        assert_eq!(keys(kept), ["key-1"]);
    }

    #[test]
    fn what_is_taken_makes_room() {
        let mut kept = Kept::default();
        kept.add(object(0, 8 << 20));
        kept.take();
        assert_eq!(kept.add(object(1, 8 << 20)), Dropped::default());
        let object = kept.take().expect("an object");
        kept.put_back(object);
        assert_eq!(kept.len(), 1);
    }
}
