//! The tracing spans of a store's operations.

use std::{
    cell::RefCell,
    fmt::{Debug, Write},
    sync::Arc,
};

use futures_util::StreamExt;
use larder_core::{Change, ErrorKind, Expiry, Info, ReadOptions, Storage, Store, Versions};
use tracing::{
    Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

use crate::recorder::{Recorder, key};

thread_local! {
    /// The fields of each span that has closed on this thread.
    static CLOSED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Collects the spans of all threads. A subscriber of one thread could miss spans that other threads use first, because
/// `tracing` remembers for all threads whether a span has a subscriber.
struct Spans;

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut fields = Fields(span.name().to_owned());
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(span.extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let Fields(fields) = span.extensions_mut().remove().unwrap();
        CLOSED.with_borrow_mut(|closed| closed.push(fields));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn spans_have_adapter_operation_outcome_and_size_but_not_key_and_value() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Spans)).unwrap();
    let info = Info::minimal("recorder").with_expiry().with_versions(Versions::Unique).with_listing();
    let recorder = Arc::new(Recorder::new(info));
    let store = Store::from(Arc::clone(&recorder) as Arc<dyn Storage>).namespace("hunter2:").unwrap();

    store.write("hunter2", "hunter2").await.unwrap();
    store.read("hunter2").await.unwrap();
    store.delete("hunter2").await.unwrap();
    store.delete("hunter2").if_absent().await.unwrap();
    store.apply(vec![Change::put(key("hunter2"), "hunter2", Expiry::Never)]).await.remove(0).unwrap();
    store.read_many(&[key("hunter2"), key("hunter3")], &ReadOptions::new()).await.remove(0).unwrap();
    assert_eq!(store.entries("hunter2").count().await, 1);
    recorder.fail(ErrorKind::StorageFull);
    store.write("hunter2", "hunter2").await.unwrap_err();
    store.close().await.unwrap_err();

    let expected = [
        r#"operation="write" outcome="ok" size=7"#,
        r#"operation="read" outcome="ok" size=7"#,
        r#"operation="delete" outcome="ok" size=1"#,
        r#"operation="delete" outcome="ok" size=0"#,
        r#"operation="apply" outcome="ok" size=1"#,
        r#"operation="read many" outcome="ok" size=2"#,
        r#"operation="list" outcome="ok" size=1"#,
        r#"operation="write" outcome="storage full" size=7"#,
        r#"operation="close" outcome="storage full" size=0"#,
    ];
    assert_eq!(CLOSED.take(), expected.map(|fields| format!(r#"larder adapter="recorder" {fields}"#)));
}
