//! A bucket: one entry of the store with some of the sessions of one owner.

use larder_core::{Expiry, Key, unique};
use serde::{Deserialize, Serialize};

use crate::{deadline::Deadline, entry::Noted};

/// The maximum length of the name of a device, in characters.
const DEVICE: usize = 256;

/// Any other content, with unknown fields for example, is that of another program or of a newer version.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bucket {
    /// A list, because not every store accepts every key as the name of a member.
    pub(crate) sessions: Vec<Noted>,
}

/// A note about a session.
#[derive(Clone, Copy)]
pub(crate) struct Note<'a> {
    pub(crate) key: &'a Key,
    pub(crate) deadline: Deadline,
    pub(crate) device: Option<&'a str>,
    /// The time of the sign-in, if the session, or its owner, is new.
    pub(crate) created: Option<i64>,
}

impl Bucket {
    /// Removes the sessions that have certainly ended.
    pub(crate) fn prune(&mut self, now: i64) {
        self.sessions.retain(|noted| !noted.is_over(now));
    }

    /// Returns the time of the latest sign-in. The smallest time if the bucket is empty.
    pub(crate) fn latest(&self) -> i64 {
        self.sessions.iter().map(|noted| noted.created).max().unwrap_or(i64::MIN)
    }

    pub(crate) fn note(&mut self, note: Note<'_>, now: i64) {
        let until = note.deadline.until(now);
        let device = note.device.map(|device| device.chars().take(DEVICE).collect());
        let stamp = format!("{:016x}", unique::id64());
        let Some(noted) = self.sessions.iter_mut().find(|noted| noted.key == *note.key) else {
            let (key, created) = (note.key.clone(), note.created.unwrap_or(now));
            self.sessions.push(Noted {
                key,
                created,
                used: now.max(created),
                until,
                stamp,
                device,
                contested: false,
            });
            return;
        };
        if let Some(created) = note.created {
            noted.created = created;
            noted.contested = true;
        }
        // A sign-in can be noted as later than now.
        noted.used = now.max(noted.created);
        // `None` is later than any time.
        noted.until = noted.until.zip(until).map(|(one, other)| one.max(other));
        noted.stamp = stamp;
        noted.device = device.or_else(|| noted.device.take());
    }

    /// Removes `entry` if it is unchanged. Returns whether it was.
    pub(crate) fn remove(&mut self, entry: &Noted, now: i64) -> bool {
        let before = self.sessions.len();
        self.sessions.retain(|noted| {
            (&noted.key, &noted.stamp) != (&entry.key, &entry.stamp)
                || noted.contested && !noted.is_settled(now)
        });
        self.sessions.len() < before
    }

    /// Returns the expiry of the bucket, with the last of its sessions. `None` if it is empty.
    pub(crate) fn expiry(&self, now: i64) -> Option<Expiry> {
        let ends = self.sessions.iter().map(|noted| noted.until);
        // `None` is later than any time.
        let last = ends.max_by_key(|until| until.unwrap_or(i64::MAX))?;
        Expiry::until(last, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_310_512_273;

    fn note(key: &Key, created: Option<i64>) -> Note<'_> {
        Note { key, deadline: Deadline::NEVER, device: None, created }
    }

    #[test]
    fn a_note_gets_a_new_stamp_and_keeps_the_creation() {
        let key = Key::new("k").unwrap();
        let mut bucket = Bucket::default();
        bucket.note(Note { device: Some("Firefox"), ..note(&key, Some(NOW)) }, NOW);
        let first = bucket.sessions[0].clone();
        bucket.note(note(&key, None), NOW + 5);
        assert_eq!(bucket.sessions.len(), 1);
        let second = bucket.sessions[0].clone();
        assert_ne!(first.stamp, second.stamp);
        assert_eq!((second.created, second.used), (NOW, NOW + 5));
        assert_eq!(second.device.as_deref(), Some("Firefox"));
        assert!(!bucket.remove(&first, NOW), "it was noted again");
        assert!(bucket.remove(&second, NOW));
        assert_eq!(bucket.expiry(NOW), None);
    }

    #[test]
    fn a_session_noted_as_new_by_two_stays_until_both_have_ended() {
        let key = Key::new("k").unwrap();
        let mut bucket = Bucket::default();
        bucket.note(note(&key, Some(NOW)), NOW);
        bucket.note(note(&key, Some(NOW + 1)), NOW + 1);
        let noted = bucket.sessions[0].clone();
        assert!(!bucket.remove(&noted, NOW + 60_000));
        assert!(bucket.remove(&noted, NOW + 601_000));
    }

    #[test]
    fn a_session_is_never_used_before_its_creation() {
        let key = Key::new("k").unwrap();
        let mut bucket = Bucket::default();
        for created in [Some(NOW + 1), None, Some(NOW + 2)] {
            bucket.note(note(&key, created), NOW);
            assert!(bucket.sessions[0].used >= bucket.sessions[0].created);
        }
    }

    #[test]
    fn the_name_of_a_device_is_cut_between_characters() {
        let key = Key::new("k").unwrap();
        let mut bucket = Bucket::default();
        bucket.note(Note { device: Some(&"名".repeat(1_000)), ..note(&key, Some(NOW)) }, NOW);
        assert_eq!(bucket.sessions[0].device, Some("名".repeat(DEVICE)));
    }

    #[test]
    fn a_bucket_ends_with_the_last_of_its_sessions() {
        let mut bucket = Bucket::default();
        for (name, left) in [("long", 1_000), ("short", 10)] {
            let key = Key::new(name).unwrap();
            bucket.note(note(&key, Some(NOW)), NOW);
            bucket.sessions.last_mut().unwrap().until = Some(NOW + left);
        }
        assert_eq!(bucket.expiry(NOW), Some(Expiry::after_millis(1_000)));
        bucket.prune(NOW + 10);
        assert_eq!(bucket.sessions.len(), 1);
        bucket.note(note(&Key::new("forever").unwrap(), None), NOW + 10);
        assert_eq!(bucket.expiry(NOW + 10), Some(Expiry::Never));
    }
}
