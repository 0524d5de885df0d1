//! Locations: whether two handles use the same entries.

use larder_core::Store;
use larder_mysql::{Config, sqlx::MySqlPool};
use larder_test_servers::Kind;
use larder_testkit::Runner;

use crate::place::{Place, suite};

async fn location(store: &Store) -> Option<larder_core::Location> {
    store.location().await.unwrap()
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(suite("mariadb_locations", "sweep=off").without_laws().case(
        "a_table_has_one_location_under_every_url",
        |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let options = format!("table={space}");
            let store = place.storage(&options).await;
            let here = location(&store).await;
            assert!(here.is_some());
            let port = place.server().rsplit_once(':').unwrap().1;
            let mariadb = place.url(&options).replacen("mysql:", "mariadb:", 1);
            let pool = MySqlPool::connect(place.bare_url()).await.unwrap();
            for same in [
                place.at(&format!("localhost:{port}")).storage(&options).await,
                larder_mysql::connect(&mariadb).await.unwrap(),
                place.storage(&format!("{options}&group_commit=false&timeout=3s")).await,
                place.builder(&options).existing().connect().await.unwrap(),
                Config::new().table(space).connect_with(pool).await.unwrap(),
            ] {
                assert_eq!(location(&same).await, here);
            }
            let beside = context.target.beside("2");
            let server = Kind::Mariadb.private().await.unwrap();
            for other in [
                place.storage(&format!("table={}", beside.space())).await,
                place.own_database(space).await.storage(&options).await,
                Place::of(&server, "").storage(&options).await,
            ] {
                assert_ne!(location(&other).await, here);
            }
            let admin = place.admin().await;
            admin.run(format!("DROP TABLE `{}`, `{space}`", beside.space())).await;
            assert_eq!(location(&store).await, None);
        },
    ))
}
