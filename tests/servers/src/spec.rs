//! The container of each kind.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{Kind, certificates::Certificates, image::Image};

/// The user of the Postgres, MariaDB and MySQL servers.
pub const USER: &str = "larder";
/// The database of the Postgres, MariaDB and MySQL servers.
pub const DATABASE: &str = "larder";
/// The password of the servers that require one. It is unique, so a test can search any output for it.
pub const PASSWORD: &str = "hunter2-larder-7c1d";
/// The Sentinel's name for the master.
pub const SENTINEL_MASTER: &str = "larder-master";

const SCRIPT: &str = "/larder-test/run.sh";

/// A file to copy into the container.
#[derive(Clone, Hash)]
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) contents: String,
}

/// A container, without its name.
#[derive(Clone, Hash)]
pub(crate) struct Spec {
    pub(crate) image: Image,
    /// Replaces the entrypoint of the image.
    pub(crate) entrypoint: Option<&'static str>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) files: Vec<File>,
    /// The ports inside, in the order of the ports outside.
    pub(crate) inside: Vec<u16>,
}

/// The number of published ports of a kind.
pub(crate) const fn port_count(kind: Kind) -> usize {
    match kind {
        Kind::RedisCluster | Kind::RedisSentinel => 3,
        // pgbouncer, and the Postgres behind it. The replica, and its primary.
        Kind::Pgbouncer | Kind::MariadbReplica => 2,
        _ => 1,
    }
}

impl Spec {
    /// The container of a kind, to be published on `ports` of the host.
    pub(crate) fn new(
        kind: Kind,
        image: Image,
        options: &[&str],
        ports: &[u16],
        certificates: Option<&Certificates>,
    ) -> Self {
        let mut spec = Self {
            image,
            entrypoint: None,
            command: Vec::new(),
            environment: Vec::new(),
            files: Vec::new(),
            inside: Vec::new(),
        };
        match kind {
            Kind::Postgres => spec.postgres(&[5432]),
            Kind::Pgbouncer => spec.postgres(&[6432, 5432]),
            Kind::PostgresTls => {
                spec.postgres(&[5432]);
                spec.command.remove(0);
                spec.script(include_str!("scripts/postgres-tls.sh"));
                spec.file(
                    "/larder-test/pg_hba.conf",
                    "local all all trust\nhostssl all all all scram-sha-256\n",
                );
            }
            Kind::Mariadb => spec.mysql(&["--skip-ssl"]),
            Kind::MariadbTls => spec.mysql(&[
                "--require-secure-transport=ON",
                "--ssl-cert=/larder-test/server.pem",
                "--ssl-key=/larder-test/server.key",
                "--ssl-ca=/larder-test/ca.pem",
            ]),
            Kind::Mysql => spec.mysql(&[]),
            Kind::MariadbReplica => {
                spec.mysql(&["--skip-ssl"]);
                spec.inside.push(3307);
                spec.script(include_str!("scripts/mariadb-replica.sh"));
                // A user with all global privileges could write on a read-only server.
                let primary = format!(
                    "{}GRANT ALL ON `%`.* TO {USER}@'%' WITH GRANT OPTION;\n\
                     GRANT CONNECTION ADMIN, CREATE USER, PROCESS, RELOAD, SLAVE MONITOR ON *.* TO {USER}@'%';\n\
                     CREATE USER IF NOT EXISTS replica@127.0.0.1 IDENTIFIED BY '{PASSWORD}';\n\
                     GRANT REPLICATION SLAVE ON *.* TO replica@127.0.0.1;\n",
                    create_mysql_user()
                );
                let replica = format!(
                    "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=3307, MASTER_USER='replica', \
                     MASTER_PASSWORD='{PASSWORD}', MASTER_SSL=0, MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1;\n\
                     START SLAVE;\n\
                     SELECT MASTER_GTID_WAIT('0-1-{}', 60);\n",
                    primary.lines().count()
                );
                spec.file("/larder-test/primary.sql", &primary);
                spec.file("/larder-test/replica.sql", &replica);
            }
            Kind::Redis => spec.redis("redis-server", &["--port", "6379"]),
            Kind::Valkey => spec.redis("valkey-server", &["--port", "6379"]),
            Kind::RedisPassword => spec.redis("redis-server", &["--port", "6379", "--requirepass", PASSWORD]),
            Kind::RedisTls => spec.redis(
                "redis-server",
                &[
                    "--port",
                    "0",
                    "--tls-port",
                    "6379",
                    "--tls-cert-file",
                    "/larder-test/server.pem",
                    "--tls-key-file",
                    "/larder-test/server.key",
                    "--tls-ca-cert-file",
                    "/larder-test/ca.pem",
                    "--tls-auth-clients",
                    "no",
                ],
            ),
            Kind::RedisCluster => spec.nodes(include_str!("scripts/cluster.sh"), options, ports),
            Kind::RedisSentinel => {
                spec.nodes(include_str!("scripts/sentinel.sh"), options, ports);
                spec.environment.push(("LARDER_TEST_MASTER", SENTINEL_MASTER.to_owned()));
            }
            Kind::Mongodb => {
                spec.inside = vec![27017];
                if !options.is_empty() {
                    spec.command.push("mongod".to_owned());
                }
            }
            Kind::Dynamodb => {
                spec.inside = vec![8000];
                // Amazon's image keeps the data in memory by default. The stand-in has no options.
                spec.command
                    .extend(["-jar", "DynamoDBLocal.jar", "-sharedDb", "-dbPath", "."].map(str::to_owned));
            }
        }
        if let Some(certificates) = certificates {
            spec.file("/larder-test/ca.pem", &certificates.ca);
            spec.file("/larder-test/server.pem", &certificates.certificate);
            spec.file("/larder-test/server.key", &certificates.key);
        }
        if !kind.has_nodes() {
            spec.command.extend(options.iter().map(ToString::to_string));
        }
        spec
    }

    /// A number that changes with every part of the container. Ports do not count: callers set them to zero.
    pub(crate) fn fingerprint(&self, place: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        place.hash(&mut hasher);
        hasher.finish()
    }

    fn postgres(&mut self, inside: &[u16]) {
        self.inside = inside.to_vec();
        self.environment.extend([
            ("POSTGRES_USER", USER.to_owned()),
            ("POSTGRES_PASSWORD", PASSWORD.to_owned()),
            ("POSTGRES_DB", DATABASE.to_owned()),
        ]);
        // Several test binaries with a pool per test share the server.
        self.command.extend(["postgres", "-c", "max_connections=300"].map(str::to_owned));
    }

    fn mysql(&mut self, options: &[&str]) {
        self.inside = vec![3306];
        // The official images want a decision about the password of root, and load the time zones for seconds.
        self.environment.extend(
            ["MYSQL_RANDOM_ROOT_PASSWORD", "MYSQL_INITDB_SKIP_TZINFO"].map(|name| (name, "yes".to_owned())),
        );
        self.file(
            "/docker-entrypoint-initdb.d/larder.sql",
            &format!("{}GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n", create_mysql_user()),
        );
        self.command.extend(
            ["--max-connections=300", "--innodb-flush-log-at-trx-commit=1", "--skip-name-resolve"]
                .map(str::to_owned),
        );
        self.command.extend(options.iter().map(ToString::to_string));
    }

    fn redis(&mut self, program: &str, options: &[&str]) {
        self.inside = vec![6379];
        self.command.push(program.to_owned());
        self.command.extend(["--appendonly", "yes", "--appendfsync", "always"].map(str::to_owned));
        self.command.extend(options.iter().map(ToString::to_string));
    }

    fn nodes(&mut self, script: &str, options: &[&str], ports: &[u16]) {
        self.inside = ports.to_vec();
        self.script(script);
        self.environment.push(("LARDER_TEST_OPTIONS", options.join(" ")));
    }

    fn script(&mut self, contents: &str) {
        self.entrypoint = Some("/bin/sh");
        self.command.insert(0, SCRIPT.to_owned());
        self.file(SCRIPT, contents);
    }

    fn file(&mut self, path: &'static str, contents: &str) {
        self.files.push(File { path, contents: contents.to_owned() });
    }
}

/// The statements that create the database and the user of a MySQL or MariaDB server, one per line. A server may run
/// them at every start.
fn create_mysql_user() -> String {
    format!(
        "CREATE DATABASE IF NOT EXISTS {DATABASE};\n\
         CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
    )
}

/// The command that restarts a node.
pub(crate) fn start_node_command(port: u16) -> [String; 4] {
    ["/bin/sh".to_owned(), SCRIPT.to_owned(), "node".to_owned(), port.to_string()]
}

/// The command that kills a node, and returns when it is gone.
pub(crate) fn kill_node_command(port: u16) -> [String; 3] {
    let script = format!(
        "pid=$(cat /data/{port}/pid) && kill -9 $pid && \
         while redis-cli -p {port} ping >/dev/null 2>&1; do sleep 0.01; done"
    );
    ["/bin/sh".to_owned(), "-c".to_owned(), script]
}

/// The URLs of a server that is published on `ports`.
pub(crate) fn urls(kind: Kind, ports: &[u16]) -> Vec<String> {
    let postgres = |port| format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}");
    let mysql = |port| format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}");
    let redis = |port: &u16| format!("redis://127.0.0.1:{port}");
    match (kind, ports) {
        (Kind::RedisCluster, ports) => ports.iter().map(redis).collect(),
        // A client gets only the Sentinel, which names the others.
        (Kind::RedisSentinel, ports) => ports.iter().skip(2).map(redis).collect(),
        (Kind::Postgres | Kind::PostgresTls | Kind::Pgbouncer, ports) => {
            ports.iter().take(1).map(postgres).collect()
        }
        (Kind::Mariadb | Kind::MariadbTls | Kind::MariadbReplica | Kind::Mysql, ports) => {
            ports.iter().take(1).map(mysql).collect()
        }
        (Kind::Redis | Kind::Valkey, ports) => ports.iter().take(1).map(redis).collect(),
        (Kind::RedisPassword, ports) => {
            ports.iter().take(1).map(|port| format!("redis://:{PASSWORD}@127.0.0.1:{port}")).collect()
        }
        (Kind::RedisTls, ports) => {
            ports.iter().take(1).map(|port| format!("rediss://127.0.0.1:{port}")).collect()
        }
        (Kind::Mongodb, ports) => ports
            .iter()
            .take(1)
            .map(|port| format!("mongodb://127.0.0.1:{port}/?directConnection=true"))
            .collect(),
        (Kind::Dynamodb, ports) => ports
            .iter()
            .take(1)
            .map(|port| {
                format!(
                    "dynamodb:?endpoint=http://127.0.0.1:{port}&region=us-east-1&access_key_id={USER}\
                     &secret_access_key={PASSWORD}"
                )
            })
            .collect(),
    }
}

/// The URL of the Postgres behind pgbouncer, or of the primary of the replica.
pub(crate) fn direct_url(kind: Kind, ports: &[u16]) -> Option<String> {
    match (kind, ports) {
        (Kind::Pgbouncer | Kind::MariadbReplica, [_, direct]) => urls(kind, &[*direct]).pop(),
        _ => None,
    }
}
