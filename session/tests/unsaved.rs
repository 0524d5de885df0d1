//! Sessions that are dropped with unsaved changes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::{cell::RefCell, future::pending, io, panic::AssertUnwindSafe, sync::Once};

use futures_util::FutureExt;
use larder_session::{
    ErrorKind, Fragment, KvSessions, LazySession, Multi, OpenSession, Result, Session, Sessions,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use tracing_subscriber::filter::LevelFilter;

use common::{Counting, HandlerError, kind};

type Change = fn(&LazySession<String>) -> Result<()>;

const SECRET: &str = "hunter2";

thread_local! {
    /// The log of this thread.
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes to [`LOG`]. A subscriber of one thread could miss events that other threads log first, because `tracing`
/// remembers for all threads whether an event has a subscriber.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `work` and returns how many times it logged a loss.
async fn losses(work: impl Future<Output = ()>) -> usize {
    static RECORDED: Once = Once::new();
    RECORDED.call_once(|| {
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(|| Log).init();
    });
    LOG.take();
    work.await;
    let log = LOG.take();
    assert!(!log.contains(SECRET), "{log}");
    for line in log.lines().filter(|line| line.contains("WARN")) {
        assert!(
            line.contains("unsaved changes") && line.contains("save") && line.contains("discard"),
            "{line}"
        );
    }
    log.matches("WARN").count()
}

fn sessions(storage: &Counting) -> Sessions<String> {
    Sessions::new(storage.clone()).unwrap()
}

#[tokio::test]
async fn a_changed_open_session_that_is_dropped_is_logged() {
    let storage = Counting::new();
    let texts = sessions(&storage);
    let changes: [fn(&mut OpenSession<String>); 3] = [
        |open| open.push_str(SECRET),
        |open| **open = SECRET.to_owned(),
        |open| drop(std::mem::take(&mut **open)),
    ];
    texts.set(SECRET, "old".to_owned()).await.unwrap();
    for change in changes {
        let lost = losses(async {
            let mut open = texts.open(SECRET).await.unwrap();
            change(&mut open);
            drop(open);
        });
        assert_eq!(lost.await, 1);
    }
    let cleared = losses(async {
        let mut open = texts.open(SECRET).await.unwrap();
        OpenSession::clear(&mut open);
        drop(open);
        let mut open = texts.open(SECRET).await.unwrap();
        OpenSession::clear(&mut open);
        open.clear();
    });
    assert_eq!(cleared.await, 2);
    assert_eq!(texts.get(SECRET).await.unwrap().as_deref(), Some("old"));
}

#[tokio::test]
async fn an_open_session_that_is_unchanged_saved_or_discarded_is_not_logged() {
    let storage = Counting::new();
    let texts = sessions(&storage);
    let lost = losses(async {
        // New and only read.
        assert_eq!(*texts.open(1).await.unwrap(), "");
        let mut open = texts.open(1).await.unwrap();
        open.push_str(SECRET);
        OpenSession::discard(open);
        let mut open = texts.open(1).await.unwrap();
        open.push_str(SECRET);
        OpenSession::save(open).await.unwrap();
        // Changed and changed back.
        let mut open = texts.open(1).await.unwrap();
        open.push('!');
        open.pop();
        drop(open);
        // New, changed and changed back.
        let mut open = texts.open(2).await.unwrap();
        open.push('!');
        open.pop();
        drop(open);
        texts.open_lazy(2).modify(|_| ()).await.unwrap();
        // The error tells the caller.
        storage.overtake("1", json!("other"));
        let mut open = texts.open(1).await.unwrap();
        open.push('!');
        assert_eq!(kind(OpenSession::save(open).await), ErrorKind::Conflict);
    });
    assert_eq!(lost.await, 0);
}

#[tokio::test]
async fn a_changed_lazy_session_is_logged_with_its_last_handle() {
    let texts = sessions(&Counting::new());
    let lost = losses(async { texts.open_lazy(SECRET).modify(|text| text.push_str(SECRET)).await.unwrap() });
    assert_eq!(lost.await, 1);
    let changes: [Change; 3] =
        [|lazy| lazy.set(SECRET.to_owned()), |lazy| lazy.set_later(pending()), LazySession::clear];
    for change in changes {
        let lost = losses(async { change(&texts.open_lazy(SECRET)).unwrap() });
        assert_eq!(lost.await, 1);
    }
    let lost = losses(async {
        let lazy = texts.open_lazy(SECRET);
        let other = lazy.clone();
        lazy.modify(|text| text.push_str(SECRET)).await.unwrap();
        drop(lazy);
        other.save().await.unwrap();
    });
    assert_eq!(lost.await, 0);
    let lost = losses(async {
        let lazy = texts.open_lazy(SECRET);
        lazy.modify(|text| text.push('!')).await.unwrap();
        lazy.save().await.unwrap();
        lazy.modify(|text| text.push('!')).await.unwrap();
    });
    assert_eq!(lost.await, 1, "changed again after it was saved");
}

#[tokio::test]
async fn a_lazy_session_that_is_untouched_read_saved_or_discarded_is_not_logged() {
    let storage = Counting::new();
    let texts = sessions(&storage);
    let lost = losses(async {
        drop(texts.open_lazy(1));
        texts.open_lazy(1).get().await.unwrap();
        texts.open_lazy(1).load().await.unwrap();
        let lazy = texts.open_lazy(1);
        lazy.set(SECRET.to_owned()).unwrap();
        lazy.discard();
        drop(lazy);
        let lazy = texts.open_lazy(1);
        lazy.modify(|text| text.push_str(SECRET)).await.unwrap();
        lazy.discard();
        lazy.save().await.unwrap();
        drop(lazy);
        texts.set(1, SECRET.to_owned()).await.unwrap();
        // The error tells the caller.
        storage.overtake("1", json!("other"));
        let lazy = texts.open_lazy(1);
        lazy.modify(|text| text.push('!')).await.unwrap();
        assert_eq!(kind(lazy.save().await), ErrorKind::Conflict);
    });
    assert_eq!(lost.await, 0);
    let lost = losses(async {
        storage.fail_write(ErrorKind::Unavailable);
        let lazy = texts.open_lazy(1);
        lazy.set(SECRET.to_owned()).unwrap();
        lazy.save().await.unwrap_err();
        lazy.save().await.unwrap();
        lazy.modify(|text| text.push('!')).await.unwrap();
    });
    assert_eq!(lost.await, 1, "changed again after a save that was repeated");
}

#[tokio::test]
async fn a_session_whose_save_is_dropped_is_logged() {
    let storage = Counting::new();
    let texts = sessions(&storage);
    storage.gate_writes();
    let lost = losses(async {
        let mut open = texts.open(1).await.unwrap();
        open.push_str(SECRET);
        assert!(OpenSession::save(open).now_or_never().is_none());
        let lazy = texts.open_lazy(1);
        lazy.modify(|text| text.push_str(SECRET)).await.unwrap();
        assert!(lazy.save().now_or_never().is_none());
    });
    assert_eq!(lost.await, 2);
}

#[tokio::test]
async fn a_lazy_session_that_is_changed_after_a_failed_save_is_logged() {
    let storage = Counting::new();
    let texts = sessions(&storage);
    let lost = losses(async {
        let changes: [Change; 2] = [
            |lazy| lazy.set(SECRET.to_owned()),
            |lazy| lazy.modify(|text| text.push('!')).now_or_never().unwrap(),
        ];
        for change in changes {
            let lazy = texts.open_lazy(1);
            lazy.set(SECRET.to_owned()).unwrap();
            storage.fail_write(ErrorKind::Unavailable);
            lazy.save().await.unwrap_err();
            change(&lazy).unwrap();
        }
    });
    assert_eq!(lost.await, 2);
}

/// A value whose encoding can panic.
#[derive(Default, Deserialize)]
struct Fragile {
    panics: bool,
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        assert!(!self.panics, "a panic that must not happen");
        json!({ "panics": false }).serialize(serializer)
    }
}

/// A second panic would abort the process.
#[tokio::test]
async fn a_session_that_is_dropped_by_a_panic_is_not_encoded() {
    let fragile: Sessions<Fragile> = Sessions::new(Counting::new()).unwrap();
    let open = AssertUnwindSafe(async {
        let mut open = fragile.open(1).await.unwrap();
        open.panics = true;
        panic!("a panic that the test wants");
    });
    assert!(open.catch_unwind().await.is_err());
    let lazy = AssertUnwindSafe(async {
        let lazy = fragile.open_lazy(1);
        lazy.modify(|fragile| fragile.panics = true).await.unwrap();
        panic!("a panic that the test wants");
    });
    assert!(lazy.catch_unwind().await.is_err());
}

#[tokio::test]
async fn updates_that_fail_or_are_dropped_are_not_logged() {
    let storage = Counting::new();
    let texts = sessions(&storage);
    let other: Sessions<String> = Sessions::builder().storage(storage.clone()).prefix("o:").build().unwrap();
    let multi = Multi::new((Fragment::strict("one", texts.clone()), Fragment::lazy("other", other)));
    let names = KvSessions::builder().storage(Counting::new()).build().unwrap();
    let lost = losses(async {
        let failing = async |mut text: Session<String>| {
            text.push('!');
            Err::<(), _>(HandlerError::Refused)
        };
        texts.update(1, failing).await.unwrap_err();
        texts.update_once(1, failing).await.unwrap_err();
        let failing = async |text: LazySession<String>| {
            text.modify(|text| text.push('!')).await?;
            Err::<(), _>(HandlerError::Refused)
        };
        texts.update_lazy(1, failing).await.unwrap_err();
        let failing = async |(mut one, other): (Session<String>, LazySession<String>)| {
            one.push('!');
            other.set("!".to_owned())?;
            Err::<(), _>(HandlerError::Refused)
        };
        multi.update((1, 1), failing).await.unwrap_err();

        let endless = async |mut text: Session<String>| {
            text.push('!');
            pending::<()>().await;
        };
        assert!(texts.update(1, endless).now_or_never().is_none());
        let endless = async |text: LazySession<String>| {
            text.modify(|text| text.push('!')).await?;
            pending::<Result<()>>().await
        };
        assert!(texts.update_lazy(1, endless).now_or_never().is_none());

        let panicking = AssertUnwindSafe(async {
            let mut open = texts.open(1).await.unwrap();
            open.push('!');
            panic!("a panic that the test wants");
        });
        assert!(panicking.catch_unwind().await.is_err());
    });
    assert_eq!(lost.await, 0);
    let lost = losses(async {
        names.open(1).await.unwrap().set("name", SECRET).unwrap();
        let mut open = names.open(1).await.unwrap();
        open.set("name", SECRET).unwrap();
        open.discard();
        let mut open = names.open(1).await.unwrap();
        open.set("name", SECRET).unwrap();
        open.save().await.unwrap();
    });
    assert_eq!(lost.await, 1);
}
