//! A client of the caller.

use futures_util::FutureExt;
use larder_core::ErrorKind;
use larder_mongodb::{Config, ValueFormat};
use larder_testkit::{Context, Fails, Must};
use mongodb::{
    bson::{Document, doc},
    options::{Acknowledgment, CollectionOptions, WriteConcern},
};

use crate::places::{DATABASE, Place, client, key, open};

pub(crate) async fn client_stays_open(context: Context<Place>) {
    let client = client(&context.factory.server).await;
    let open = async || {
        let config = Config::new().database(DATABASE).collection(context.target.space());
        config.values(ValueFormat::Json).connect_with(client.clone()).await.must("connect")
    };
    let (one, other) = (open().await, open().await);
    one.write(key("k"), "[1]").await.must("write");
    one.close().await.must("close");
    one.clone().read(key("k")).await.fails(ErrorKind::Closed, "read of a closed storage");
    assert_eq!(other.read(key("k")).await.must("read").must("find it").value, "[1]");
    other.close().await.must("close");
    let names = client.database(DATABASE).list_collection_names().await.must("use the client on");
    assert!(names.iter().any(|name| name == context.target.space()));
}

pub(crate) async fn collection_options(context: Context<Place>) {
    let client = client(&context.factory.server).await;
    let config = Config::new().database(DATABASE).collection(context.target.space());
    let with = |w| {
        let concern = WriteConcern::builder().w(Acknowledgment::Nodes(w)).build();
        config.clone().collection_options(CollectionOptions::builder().write_concern(concern).build())
    };
    let storage = with(1).connect_with(client.clone()).await.must("connect");
    storage.write(key("k"), "v").await.must("write");
    storage.close().await.must("close");
    let collection = client.database(DATABASE).collection::<Document>(context.target.space());
    assert_eq!(collection.count_documents(doc! {}).await.must("use the client on"), 1);
    let error = with(0).connect_with(client).await.fails(ErrorKind::InvalidConfig, "no acknowledgement");
    assert!(error.message().contains("w=0"), "{error}");
}

/// Threads outside Tokio may poll futures and drop the last handle.
pub(crate) async fn off_runtime(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "").await;
    let thread = std::thread::spawn(move || {
        let key = key("k");
        let abandoned = storage.write(&key, "v").into_future().now_or_never();
        assert!(abandoned.is_none(), "a write without a wait");
        block_on(storage.write(&key, "w").into_future()).must("write off the runtime");
        drop(storage);
    });
    let ended = tokio::task::spawn_blocking(move || thread.join().map_err(|_| "it panicked")).await;
    ended.must("wait").must("end the thread");
    let storage = open(&context.factory.server, context.target.space(), "").await;
    assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "w");
}

/// An executor other than Tokio.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
