//! Locations: whether two handles use the same entries.

use larder_core::Store;
use larder_testkit::Runner;

use crate::{
    fencing::{private, remove_private},
    place::suite,
};

async fn location(store: &Store) -> Option<larder_core::Location> {
    store.location().await.unwrap()
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("postgres_locations", "sweep=off")
            .without_laws()
            .case("a_table_has_one_location_under_every_name_and_layout", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let admin = place.admin().await;
                admin.run(&format!("CREATE TABLE \"{table}\" (); CREATE TABLE \"{table}-2\" ()")).await;
                let schema = admin.text("SELECT current_schema()::text").await.unwrap();
                let port = place.server().rsplit_once(':').expect("the server has a port").1;
                let by_name = place.at(&format!("localhost:{port}"));
                let stores = [
                    place.storage(&format!("table={table}&setup=false")).await,
                    place.storage(&format!("table={table}&layout=grammy&setup=false")).await,
                    place.storage(&format!("table={schema}.{table}&group_commit=false&setup=false")).await,
                    by_name.storage(&format!("table={table}&setup=false")).await,
                ];
                let here = location(&stores[0]).await;
                assert!(here.is_some());
                for store in &stores {
                    assert_eq!(location(store).await, here);
                }
                let other = place.storage(&format!("table={table}-2&setup=false")).await;
                assert_ne!(location(&other).await, here);
                admin.run(&format!("DROP TABLE \"{table}\", \"{table}-2\"")).await;
                assert_eq!(location(&other).await, None);
            })
            .case("a_user_without_permission_for_the_server_has_no_location", |context| async move {
                let space = context.target.space();
                let place = private(&context.factory, space).await;
                let store = place.storage("").await;
                assert!(location(&store).await.is_some());
                place.admin().await.run("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await;
                assert_eq!(location(&store).await, None);
                store.close().await.unwrap();
                remove_private(&context.factory, space).await;
            }),
    )
}
